# An exported dedicated server. The folder `game/` beside this file is the export: server.x86_64, server.pck and the addon's
# library. See docs/src/deploy-docker.md.
FROM debian:13-slim

# The program may not change itself: its files belong to root.
COPY game/ /game/
COPY --chmod=0755 game-server-health /usr/local/bin/

# The only folder that the server writes to. A new volume takes owner and mode from here.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data

# HOME: Godot keeps user:// below it.
# BACKEND_TLS_ROOTS: this image has no certificate authorities of its own.
ENV HOME=/data \
    BACKEND_MODE=server \
    BACKEND_JOURNAL_FOLDER=/data/journal \
    BACKEND_WORLDS_FOLDER=/data/worlds \
    BACKEND_TLS_ROOTS=bundled \
    BACKEND_QUERY_PORT=27015 \
    BACKEND_LOG_FORMAT=json \
    BACKEND_SHUTDOWN_GRACE_SECONDS=25

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 7777/udp 27015/udp

# The addon shuts down in order within BACKEND_SHUTDOWN_GRACE_SECONDS. Stop with a longer limit than that: Docker's own is
# 10 seconds.
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["game-server-health"]

# The exec form: a shell would be process 1 and would not forward the signal.
ENTRYPOINT ["/game/server.x86_64", "--headless", "--"]
CMD ["--port=7777"]
