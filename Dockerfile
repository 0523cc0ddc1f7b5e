FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home app \
    && mkdir /data && chown app:app /data
WORKDIR /app

FROM base AS dashboard
# rq-dashboard 0.9.0 imports six without asking for it.
RUN pip install rq-dashboard==0.9.0 six==1.17.0
USER 10001

FROM base AS app
COPY requirements.txt .
RUN pip install --requirement requirements.txt
COPY . .
USER 10001
VOLUME /data
EXPOSE 8000
CMD ["python", "main.py", "api"]
