//! The object store: a local folder, an S3-compatible store or Azure Blob Storage.

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_lc_rs::digest;
use axum::body::Bytes;
use axum::http::Method;
use backend_protocol::world_store::{MAX_CHUNK_BYTES, MAX_OBJECT_BYTES, ObjectAddress};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::config::{Config, InvalidSetting, redact_secrets};
use crate::database::Database;
use crate::database::secrets::shared_secret;
use crate::private_files;

/// How long a signed address can be used: long enough for a slow line, short enough for a leaked one.
const SIGNED_URL_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Objects checked at a time; each is held in memory meanwhile.
const MAX_CONCURRENT_CHECKS: usize = 4;
/// Most memory a frame may make the decompressor allocate, as a power of two: no chunk is larger.
const MAX_WINDOW_LOG: u32 = 24;

/// The object store.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    /// Azure requires a header that names the kind of blob.
    is_azure: bool,
    /// Ends in a word of this database's own, so that two backends in one bucket never remove each other's objects.
    prefix: Path,
    /// Limits how many uploads are in memory.
    pub checks: Semaphore,
}

impl Objects {
    /// Opens what `config.world_storage` names; without it, a folder `worlds` beside the SQLite file.
    pub async fn open(config: &Config, database: &Database) -> anyhow::Result<Self> {
        let own =
            shared_secret(database, "world_storage", Uuid::new_v4().simple().to_string().as_bytes()).await?;
        let own = String::from_utf8(own).context("the stored name of the world storage is damaged")?;
        let location = match &config.world_storage {
            Some(location) => location.clone(),
            None => beside(&config.database),
        };
        let (store, signer, prefix): (Arc<dyn ObjectStore>, Option<Arc<dyn Signer>>, &str) = match location
            .split_once("://")
        {
            Some(("file", folder)) => (Arc::new(local(folder)?), None, ""),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
                let s3 = Arc::new(s3.context("world storage: S3 is not configured (AWS_… variables)")?);
                (s3.clone(), Some(s3), prefix)
            }
            Some(("az", rest)) => {
                let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let azure = MicrosoftAzureBuilder::from_env().with_container_name(container).build();
                let azure = azure.context("world storage: Azure is not configured (AZURE_… variables)")?;
                let azure = Arc::new(azure);
                (azure.clone(), Some(azure), prefix)
            }
            Some(_) => {
                let shown = redact_secrets(&location);
                bail!(InvalidSetting(format!(
                    "--world-storage {shown}: is none of a folder, s3://… and az://…"
                )))
            }
            None => (Arc::new(local(&location)?), None, ""),
        };
        let prefix =
            Path::parse(prefix).context("world storage: the prefix is not a path")?.join(own.as_str());
        let is_azure = location.starts_with("az://");
        Ok(Self { store, signer, is_azure, prefix, checks: Semaphore::new(MAX_CONCURRENT_CHECKS) })
    }

    /// A location for `hash` that was never used and is told apart by `upload`.
    pub fn location(&self, hash: &str, upload: &str) -> String {
        let folder = hash.get(..2).unwrap_or_default();
        self.prefix.clone().join(folder).join(format!("{hash}-{upload}.zst")).to_string()
    }

    /// Stores an object; durable when it returns.
    pub async fn put(&self, location: &str, bytes: Bytes) -> Result<(), Error> {
        self.store.put(&Path::parse(location)?, PutPayload::from_bytes(bytes)).await.map(drop)
    }

    /// Size of what lies there, `None` if nothing does.
    pub async fn size(&self, location: &str) -> Result<Option<u64>, Error> {
        match self.store.head(&Path::parse(location)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an object, or a part of it.
    pub async fn get(&self, location: &str, range: Option<std::ops::Range<u64>>) -> Result<GetResult, Error> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        self.store.get_opts(&Path::parse(location)?, options).await
    }

    /// Copies an object within the store.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        self.store.copy(&Path::parse(from)?, &Path::parse(to)?).await
    }

    /// Whether an object is there and is what has this hash. Reads no more than an object may have.
    pub async fn holds(&self, location: &str, hash: &str) -> Result<bool, Error> {
        let found = match self.get(location, None).await {
            Err(Error::NotFound { .. }) => return Ok(false),
            found => found?,
        };
        if found.meta.size > MAX_OBJECT_BYTES as u64 {
            return Ok(false);
        }
        let (stored, hash) = (found.bytes().await?, hash.to_owned());
        let checked = tokio::task::spawn_blocking(move || is_object(&stored, &hash)).await;
        checked.map_err(|error| Error::Generic { store: "check", source: error.into() })
    }

    /// Removes an object that nothing refers to. The sweep finds what is left.
    pub async fn discard(&self, location: &str) {
        if let Err(error) = self.delete(location).await {
            tracing::debug!(%error, "a surplus object stays for the sweep");
        }
    }

    /// Removes an object if it is there.
    pub async fn delete(&self, location: &str) -> Result<(), Error> {
        match self.store.delete(&Path::parse(location)?).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Locations in one of the 256 folders that were last written before `before_ms`.
    pub async fn older(&self, folder: u8, before_ms: i64) -> Result<Vec<String>, Error> {
        let folder = self.prefix.clone().join(format!("{folder:02x}"));
        let listed = self.store.list_with_delimiter(Some(&folder)).await?;
        let old = listed.objects.into_iter().filter(|meta| meta.last_modified.timestamp_millis() < before_ms);
        Ok(old.map(|meta| meta.location.to_string()).collect())
    }

    /// An address where a server can read or write the object itself. `None`: it has to come through the backend.
    pub async fn address(&self, method: Method, location: &str) -> Option<ObjectAddress> {
        let signer = self.signer.as_ref()?;
        let path = Path::parse(location).ok()?;
        let url = match signer.signed_url(method.clone(), &path, SIGNED_URL_LIFETIME).await {
            Ok(url) => url,
            Err(error) => {
                tracing::warn!(%error, "no signed address; objects come through the backend");
                return None;
            }
        };
        // Servers refuse anything else.
        let loopback = url.host_str().is_some_and(|host| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        });
        if url.scheme() != "https" && !loopback {
            return None;
        }
        let kind = ("x-ms-blob-type".to_owned(), "BlockBlob".to_owned());
        let headers = (self.is_azure && method == Method::PUT).then_some(kind).into_iter().collect();
        Some(ObjectAddress {
            method: method.to_string(),
            url: url.into(),
            headers,
            expires_in: u32::try_from(SIGNED_URL_LIFETIME.as_secs()).unwrap_or(u32::MAX),
        })
    }
}

/// An upload's name that nobody else has.
pub fn new_upload() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Whether `stored` is the compressed form of what has this hash. Reads at most [`MAX_CHUNK_BYTES`] of it.
pub fn is_object(stored: &[u8], hash: &str) -> bool {
    let Ok(mut frame) = zstd::stream::read::Decoder::with_buffer(stored) else { return false };
    if frame.window_log_max(MAX_WINDOW_LOG).is_err() {
        return false;
    }
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match frame.read(&mut buffer) {
            Ok(0) => return hex(digest.finish().as_ref()) == hash,
            Ok(count) => {
                bytes += count;
                if bytes > MAX_CHUNK_BYTES {
                    return false;
                }
                digest.update(&buffer[..count]);
            }
            Err(_) => return false,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn local(folder: &str) -> anyhow::Result<LocalFileSystem> {
    // Each database has a folder of its own in it, named by a UUID.
    let is_ours = |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    private_files::create_folder(std::path::Path::new(folder), is_ours)
        .with_context(|| format!("--world-storage {folder} cannot be used"))?;
    let store = LocalFileSystem::new_with_prefix(folder)
        .with_context(|| format!("world storage: cannot use the folder {folder}"))?;
    // Without it a power cut loses objects that were acknowledged.
    Ok(store.with_fsync(true))
}

fn beside(database: &str) -> String {
    let file = database.strip_prefix("sqlite://").unwrap_or(database);
    let folder = if file.contains("://") { None } else { std::path::Path::new(file).parent() };
    folder.map_or_else(|| PathBuf::from("worlds"), |folder| folder.join("worlds")).display().to_string()
}

#[cfg(test)]
mod tests;
