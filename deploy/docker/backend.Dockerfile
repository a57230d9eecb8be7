# The backend. The file `backend-server` beside this file is the static program of backend-server-VERSION-linux-*.zip.
# See docs/src/deploy-docker.md.
FROM debian:13-slim AS files
# Not pinned: each build takes the current certificate authorities.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends busybox-static ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# busybox is here for the health check only. Under the name wget it is wget and nothing else.
RUN install -D --mode=0755 /bin/busybox /files/bin/wget \
    && install -D --mode=0644 /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/ca-certificates.crt \
    && install --directory --owner=10001 --group=10001 --mode=0700 /files/data /files/key

FROM scratch
COPY --from=files /files/ /
COPY --chmod=0755 backend-server /bin/backend-server

ENV BACKEND_LISTEN=0.0.0.0:8420 \
    BACKEND_LOG_FORMAT=json \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

USER 10001:10001
# A SQLite file and the folder of worlds are made here, unless options name other places.
WORKDIR /data
VOLUME /data
EXPOSE 8420

# Requests that are running have 10 seconds.
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/bin/wget", "-q", "-T", "4", "-O", "/dev/null", "http://127.0.0.1:8420/readyz"]

ENTRYPOINT ["/bin/backend-server"]
CMD ["serve"]
