//! Chunks in an S3-compatible store: they go there and come from there at signed addresses, past the backend.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_harness::backend::{Backend, free_port};
use test_harness::fault_proxy::FaultProxy;
use test_harness::world::{NAMES, files, flush, holds, load, open, save, start, start_behind, stop};
use tokio::runtime::Runtime;

const ACCESS_KEY: &str = "keeper";
const SECRET_KEY: &str = "of-the-world";

/// A server that speaks S3 and checks signatures, with one bucket.
struct S3 {
    folder: TempDir,
    address: SocketAddr,
    service: S3Service,
    /// `None` while it is down.
    running: Option<Runtime>,
}

impl S3 {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("bucket"))?;
        let files = FileSystem::new(folder.path()).map_err(|error| anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut s3 = Self { folder, address, service: service.build(), running: None };
        s3.resume()?;
        Ok(s3)
    }

    fn resume(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        let runtime = Runtime::new()?;
        let service = self.service.clone();
        runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is no fault of the server.
                    let _gone = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        self.running = Some(runtime);
        Ok(())
    }

    /// Cuts all connections and refuses new ones.
    fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    fn backend(&self, secret_key: &str) -> Result<Backend> {
        let environment = [
            ("AWS_ENDPOINT", &*format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", secret_key),
        ];
        Backend::start_in(&environment, None, &["--world-storage", "s3://bucket/game"])
    }

    /// The objects' files.
    fn objects(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.path().join("bucket");
        let mut found = files(&folder)?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "zst"));
        ensure!(
            found.iter().all(|path| path.starts_with(folder.join("game"))),
            "outside of the prefix: {found:?}"
        );
        Ok(found)
    }
}

fn through_the_backend(proxy: &FaultProxy) -> usize {
    proxy.requests("/v1/worlds/overworld/objects/")
}

fn folder() -> Result<TempDir> {
    tempfile::tempdir().context("no folder")
}

#[test]
fn chunks_go_past_the_backend_in_both_directions() -> Result<()> {
    let s3 = S3::start()?;
    let backend = s3.backend(SECRET_KEY)?;
    let proxy = FaultProxy::start(backend.address())?;
    let (here, there) = (folder()?, folder()?);
    let mut first = start_behind("First", &proxy.url(), &backend, here.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    flush(&mut first)?;
    ensure!(s3.objects()?.len() == 1, "one object for the same content: {:?}", s3.objects()?);
    first.ask(&json!({ "do": "close" }))?;

    let mut second = start_behind("Second", &proxy.url(), &backend, there.path())?;
    ensure!(open(&mut second)?.len() == NAMES.len(), "chunks are missing");
    holds(&mut second, "grass", 1)?;
    ensure!(through_the_backend(&proxy) == 0, "objects came through the backend");
    ensure!(!backend.worlds_folder().exists(), "the backend keeps objects itself");
    stop(first)?;
    stop(second)
}

#[test]
fn an_outage_of_the_store_delays_chunks_and_loses_none() -> Result<()> {
    let mut s3 = S3::start()?;
    let backend = s3.backend(SECRET_KEY)?;
    let folder = folder()?;
    let mut server = start("Keeper", &backend, folder.path())?;
    open(&mut server)?;
    s3.stop();
    save(&mut server, "grass")?;
    ensure!(!server.log().contains("EVENT saved "), "saved without a store");
    s3.resume()?;
    flush(&mut server)?;
    holds(&mut server, "grass", 1)?;
    stop(server)
}

#[test]
fn a_damaged_object_of_the_store_is_not_believed() -> Result<()> {
    let s3 = S3::start()?;
    let backend = s3.backend(SECRET_KEY)?;
    let (here, there) = (folder()?, folder()?);
    let mut first = start("First", &backend, here.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    first.ask(&json!({ "do": "close" }))?;
    damage(&s3.objects()?[0])?;
    let mut second = start("Second", &backend, there.path())?;
    open(&mut second)?;
    let damaged = load(&mut second, "buildings")?;
    ensure!(damaged["failed"] == "bad_reply", "{damaged}");
    stop(first)?;
    stop(second)
}

#[test]
fn a_store_that_refuses_the_key_is_told_and_takes_nothing() -> Result<()> {
    let s3 = S3::start()?;
    let backend = s3.backend("another-secret")?;
    let folder = folder()?;
    let mut server = start("Keeper", &backend, folder.path())?;
    open(&mut server)?;
    save(&mut server, "grass")?;
    server.log().wait_for("EVENT save_failed chunk=buildings code=network")?;
    ensure!(s3.objects()?.is_empty(), "a store without a lock");
    server.godot().kill()
}

/// A server key that asks the backend and the store by itself.
struct Stranger {
    http: reqwest::blocking::Client,
    base_url: String,
    key: String,
    server_id: String,
    epoch: Value,
}

impl Stranger {
    fn open(backend: &Backend) -> Result<Self> {
        let mut stranger = Self {
            http: reqwest::blocking::Client::builder().no_proxy().build()?,
            base_url: backend.url(),
            key: fs::read_to_string(backend.server_key_file())?.trim().to_owned(),
            server_id: backend.api()?.register_server("Stranger")?.server_id,
            epoch: Value::Null,
        };
        let (status, lease) =
            stranger.post("open", &json!({ "server_id": stranger.server_id, "opening": 1 }))?;
        ensure!(status == 200, "{lease}");
        stranger.epoch = lease["epoch"].clone();
        Ok(stranger)
    }

    fn post(&self, what: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("{}/v1/worlds/cave/{what}", self.base_url);
        let reply = self.http.post(url).bearer_auth(&self.key).json(body).send()?;
        Ok((reply.status().as_u16(), reply.json()?))
    }

    /// A signed address for an object that is not there, and the name of the upload.
    fn address(&self, hash: &str) -> Result<(String, Value)> {
        let (_, uploads) = self.post("uploads", &json!({ "hashes": [hash] }))?;
        let upload = &uploads["objects"][0];
        ensure!(upload["present"] == false, "{upload}");
        Ok((upload["address"]["url"].as_str().context("no address")?.to_owned(), upload["upload"].clone()))
    }

    fn put(&self, url: &str, bytes: &[u8]) -> Result<()> {
        self.http.put(url).body(bytes.to_vec()).send()?.error_for_status()?;
        Ok(())
    }

    fn commit(&self, sequence: i64, hash: &str, stored_bytes: usize, upload: &Value) -> Result<(u16, Value)> {
        let chunk =
            json!({ "name": "a", "hash": hash, "bytes": 5, "stored_bytes": stored_bytes, "upload": upload });
        let body = json!({ "server_id": self.server_id, "epoch": self.epoch, "sequence": sequence, "chunks": [chunk] });
        self.post("commit", &body)
    }

    fn read(&self, hash: &str) -> Result<Vec<u8>> {
        let url = format!("{}/v1/worlds/cave/objects/{hash}", self.base_url);
        Ok(self.http.get(url).bearer_auth(&self.key).send()?.error_for_status()?.bytes()?.to_vec())
    }
}

/// The hash of five bytes, and the zstd frame that holds them as they are.
fn object(raw: [u8; 5]) -> (String, Vec<u8>) {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &raw);
    let mut hash = String::new();
    for byte in digest.as_ref() {
        write!(hash, "{byte:02x}").expect("a String takes it");
    }
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 5 << 3 | 1, 0, 0];
    frame.extend(raw);
    (hash, frame)
}

#[test]
fn what_is_sent_to_the_store_is_shared_only_if_it_is_what_its_hash_says() -> Result<()> {
    let s3 = S3::start()?;
    let backend = s3.backend(SECRET_KEY)?;
    let stranger = Stranger::open(&backend)?;
    let ((hash, right), (_, garbage)) = (object(*b"right"), object(*b"wrong"));

    // Of the right size, well compressed, and something else.
    let (url, upload) = stranger.address(&hash)?;
    stranger.put(&url, &garbage)?;
    let (status, refused) = stranger.commit(1, &hash, garbage.len(), &upload)?;
    ensure!((status, &refused["code"]) == (409, &json!("object_missing")), "{refused}");
    // Larger or smaller than it is said to be.
    let (url, upload) = stranger.address(&hash)?;
    stranger.put(&url, &right)?;
    ensure!(stranger.commit(1, &hash, right.len() + 1, &upload)?.0 == 409, "of another size");

    let (status, committed) = stranger.commit(1, &hash, right.len(), &upload)?;
    ensure!(status == 200, "{committed}");
    ensure!(stranger.read(&hash)? == right, "another object");
    // The signed address is still good, but nobody reads there any more.
    stranger.put(&url, &garbage)?;
    ensure!(stranger.read(&hash)? == right, "changed through a signed address");
    let (status, again) = stranger.commit(2, &hash, right.len(), &upload)?;
    ensure!(status == 200, "{again}");
    ensure!(stranger.read(&hash)? == right, "changed by a later commit");

    // What the store itself has spoilt, a PUT of the right bytes heals.
    for file in s3.objects()? {
        fs::write(file, &garbage)?;
    }
    ensure!(stranger.read(&hash)? == garbage, "not spoilt");
    let url = format!("{}/v1/worlds/cave/objects/{hash}", stranger.base_url);
    stranger.http.put(url).bearer_auth(&stranger.key).body(right.clone()).send()?.error_for_status()?;
    ensure!(stranger.read(&hash)? == right, "not healed");
    Ok(())
}

fn damage(object: &Path) -> Result<()> {
    let mut bytes = fs::read(object)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(object, bytes)?;
    Ok(())
}
