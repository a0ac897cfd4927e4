#!/bin/sh
# Makes an authority and certificates (ECDSA, P-256) for a server and a client, for the TLS
# programs.
#
#   certificates.sh FOLDER
set -eu
mkdir -p "$1"
cd "$1"
[ ! -e client.pem ] || exit 0

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

key authority
openssl req -x509 -new -key authority.key -subj '/CN=bench authority' -days 3650 -out authority.pem
cat >extensions <<-END
	basicConstraints = CA:FALSE
	subjectAltName = DNS:localhost, IP:127.0.0.1
END
for name in server client; do
	key "$name"
	openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.request"
	openssl x509 -req -in "$name.request" -CA authority.pem -CAkey authority.key -CAcreateserial \
		-extfile extensions -days 3650 -out "$name.pem" 2>certificates.log || {
		cat certificates.log >&2
		exit 1
	}
done
