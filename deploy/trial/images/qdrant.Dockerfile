FROM python:3.13-slim
RUN mkdir -p /qdrant/storage && chown 1000:1000 /qdrant/storage
WORKDIR /qdrant
COPY requirements.txt .
RUN pip install --quiet --require-hashes --requirement requirements.txt
COPY . .
RUN printf '#!/bin/sh\nexec python -m deploy.trial.qdrant_stand_in\n' > entrypoint.sh && chmod +x entrypoint.sh
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
VOLUME /qdrant/storage
CMD ["./entrypoint.sh"]
