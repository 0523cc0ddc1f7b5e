#!/bin/sh
# Stop the containers of the profile `app` from starting while a secret is missing, and say how to make both.
set -eu
for name in VALKEY_PASSWORD QDRANT_API_KEY; do
    eval "value=\${$name}"
    if [ -z "$value" ]; then
        echo "$name is not set. Beside docker-compose.yml, run: echo \"$name=\$(openssl rand -hex 32)\" >> .env" >&2
        missing=yes
    fi
done
[ -z "${missing:-}" ]
