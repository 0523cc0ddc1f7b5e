#!/bin/sh
# Become a valkey-server whose ACL file is users.acl, beside this script, with the hash of VALKEY_PASSWORD.
# Arguments go to the server. The file is written to ACL_FILE, by default under /tmp, as all else is read-only.
# Without VALKEY_PASSWORD everybody may do everything who reaches the server: compose publishes it on loopback only.
set -eu
if [ -z "${VALKEY_PASSWORD:-}" ]; then
    if [ -n "${VALKEY_TLS_DIR:-}" ]; then
        echo 'VALKEY_PASSWORD is not set. Run: echo "VALKEY_PASSWORD=$(openssl rand -hex 32)" >> .env' >&2
        exit 1
    fi
    exec "${VALKEY_SERVER:-valkey-server}" --protected-mode no "$@"
fi
acl=${ACL_FILE:-/tmp/users.acl}
hash=$(printf %s "$VALKEY_PASSWORD" | sha256sum | cut -d ' ' -f 1)
umask 077
# Valkey wants one line per user, and no comments.
sed -e '/^#/d' -e '/^$/d' -e "s/PASSWORD_SHA256/$hash/" "$(dirname "$0")/users.acl" |
    awk '{ printf "%s%s", (/^user/ && NR > 1) ? "\n" : "", $0 } END { print "" }' > "$acl"
unset VALKEY_PASSWORD
# docker-compose.tls.yml: TLS on the same port, and nothing without.
if [ -n "${VALKEY_TLS_DIR:-}" ]; then
    set -- "$@" --port 0 --tls-port 6379 --tls-auth-clients no --tls-ca-cert-file "$VALKEY_TLS_DIR/ca.crt" \
        --tls-cert-file "$VALKEY_TLS_DIR/valkey.crt" --tls-key-file "$VALKEY_TLS_DIR/valkey.key"
fi
exec "${VALKEY_SERVER:-valkey-server}" --aclfile "$acl" "$@"
