#!/bin/sh
# Make a certificate authority of your own, and certificates for valkey and qdrant signed by it, in a folder:
# `sh deploy/certificates.sh` makes deploy/certs, which docker-compose.tls.yml mounts. They are good for 825 days;
# run it again for new ones. Keep ca.key to yourself, or delete it: no server needs it.
set -eu
folder=${1:-$(dirname "$0")/certs}
umask 077
mkdir -p "$folder"
cd "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 3650 -subj "/CN=RAG Query API" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2> /dev/null
for name in valkey qdrant; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -subj "/CN=$name" \
        -keyout "$name.key" -out "$name.csr" 2> /dev/null
    cat > "$name.ext" << EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$name, DNS:localhost, IP:127.0.0.1
EXTENSIONS
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 825 \
        -extfile "$name.ext" -out "$name.crt" 2> /dev/null
    rm "$name.csr" "$name.ext"
done
# The servers run as users of their own, and are given these files one by one. The folder keeps others out.
chmod 644 ./*.crt valkey.key qdrant.key
echo "made ca.crt, valkey.crt and qdrant.crt in $folder"
