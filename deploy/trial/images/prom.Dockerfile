FROM python:3.13-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus wget \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /prometheus && chown 65534:65534 /prometheus
VOLUME /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
