"""The knobs of the HTTP server."""

from dataclasses import dataclass

from lesion.config.knob import knob


@dataclass
class ServeConfig:
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on; the default is reached from this machine only."""
    port: int = knob(8000, at_least=0, at_most=65535)
    """TCP port; 0 takes a free one."""
    threads: int = knob(0, at_least=0, at_most=1024)
    """Images that are worked on at once, and threads for a lone one; 0 means as many as this process may use."""
    workers: int = knob(1, at_least=1, at_most=64)
    """Processes that listen on the port, each with its own model, queue and share of the threads."""
    max_upload_mb: float = knob(16.0, above=0, at_most=1024)
    """Largest request body, in MiB, counted as it arrives."""
    max_batch: int = knob(32, at_least=1, at_most=256)
    """Most images of one inference on a GPU: those that wait are taken together. A CPU runs one image per thread."""
    max_images: int = knob(32, at_least=1, at_most=1000)
    """Most images of one POST /predict/batch."""
    queue: int = knob(32, at_least=1, at_most=10000)
    """Images that may wait; beyond that, requests are answered 503 at once."""
    deadline_s: float = knob(10.0, above=0, at_most=600)
    """Seconds from a request's last byte to its answer; what takes longer is answered 503."""
    receive_s: float = knob(20.0, above=0, at_most=600)
    """Seconds in which a request must have arrived completely; its headers in half of that."""
    keep_alive_s: int = knob(65, at_least=1, at_most=3600)
    """Seconds that an idle connection stays open; more than the proxy in front keeps it (nginx: 60)."""
    drain_s: float = knob(8.0, above=0, at_most=600)
    """Seconds to finish what is in flight after SIGTERM."""
    tokens: str | None = knob(None, path=True)
    """File with the SHA-256 of one token per line; read again when it changes. null means that anyone may ask."""
    open: bool = False
    """Listen beyond this machine without tokens."""
    rate: float = knob(0.0, at_least=0, at_most=1e6)
    """Images a client may send per minute; 0 means no limit."""
    burst: int = knob(30, at_least=1, at_most=1_000_000)
    """Images a client may send at once before `rate` holds."""
    redis: str | None = None
    """redis://HOST:PORT/N that several servers count `rate` in; null counts in this process."""
    proxies: int = knob(0, at_least=0, at_most=10)
    """Trusted proxies in front; so many addresses from the right of X-Forwarded-For are believed."""
    allowed_hosts: list[str] = knob([])
    """Names in the Host header that are answered, besides localhost and IP addresses; see docs/serving.md."""
    origins: list[str] = knob([])
    """Origins that browsers may call from (CORS); none by default."""
    certificate: str | None = knob(None, path=True)
    """PEM file with the TLS certificate chain; with `key`."""
    key: str | None = knob(None, path=True)
    """PEM file with the certificate's private key."""
    signer: str | None = knob(None, path=True)
    """PEM file of the Ed25519 public key that every model must be signed with; null takes unsigned ones, too."""
    traces: str | None = None
    """http://HOST:4318 of an OpenTelemetry collector that every request is told to; null tells none."""
    watch_s: float = knob(2.0, at_least=0, at_most=86_400)
    """Seconds between two looks at the model file or its alias; 0 looks on SIGHUP only."""
    canary: str | None = knob(None, path=True)
    """NAME@ALIAS=SHARE or FILE=SHARE: another model that answers this share of the requests."""
    shadow: str | None = knob(None, path=True)
    """NAME@ALIAS or FILE: another model that is asked, too, and never answers."""
    log: str = knob("text", choices=("text", "json"))
    """Form of the log lines."""
    journal: str | None = knob(None, path=True)
    """SQLite file or postgresql:// URL that every answer is written to, without its image; null writes none."""
    drift_window: int = knob(500, at_least=50, at_most=100000)
    """Latest images that are compared with the model's reference."""
    drift_alert: float = knob(0.25, above=0, at_most=1000)
    """Population stability index from which a distribution counts as drifted."""
    page: bool = True
    """Serve the page at /."""
