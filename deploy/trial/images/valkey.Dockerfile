FROM python:3.13-slim
RUN apt-get update && apt-get install -y --no-install-recommends valkey-server valkey-tools gawk \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /data && chown 999:1000 /data
VOLUME /data
WORKDIR /data
CMD ["valkey-server", "--protected-mode", "no"]
