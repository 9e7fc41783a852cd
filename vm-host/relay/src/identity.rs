//! Who this host is in a deployment: the name and id that it was given, its key, and a certificate that is renewed at half its
//! life. Kept in a folder that only root can read.

use crate::dial;
use futures_util::{SinkExt, StreamExt};
use lucarne_control::HostId;
use lucarne_control::enroll::{Answer, Ask};
use lucarne_trust::{Credentials, EnrollmentToken, PublicKey, Role, VALID, pinned};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::tungstenite::{self, Message};

const HOST: &str = "host.json";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const AUTHORITY: &str = "authority.pem";

/// Why a host is not, or cannot become, one of a deployment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("the host's identity in {path} cannot be used: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// No broker answered.
    #[error("no broker could be asked: {0}")]
    Unreachable(String),
    /// The broker said no.
    #[error("the broker refuses: {0}")]
    Refused(String),
    /// Certificates.
    #[error(transparent)]
    Trust(#[from] lucarne_trust::Error),
}

/// What the deployment knows this host as, and where its brokers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its brokers, `NAME:PORT`: any of them will do.
    pub brokers: Vec<String>,
}

/// An enrolled host.
#[derive(Clone, Debug)]
pub struct Identity {
    dir: PathBuf,
    /// Who it is.
    pub about: About,
}

fn file(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), why: why.to_string() }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|e| file(path, e))
}

/// Writes a file that only its owner can read; it is whole when it is there.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut open = fs::OpenOptions::new();
        let mut out = open.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|e| file(path, e))
}

impl Identity {
    /// The identity in a folder; none when there is none.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(HOST);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let about = serde_json::from_str(&text).map_err(|e| file(&path, e))?;
                Ok(Some(Self { dir: dir.to_owned(), about }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file(&path, e)),
        }
    }

    /// Joins a deployment with a token, and keeps in `dir` what that gives; an identity that was there is replaced only when the
    /// broker has agreed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enroll(
        dir: &Path,
        token: &EnrollmentToken,
        name: &str,
        brokers: &[String],
    ) -> Result<Self, Error> {
        let (key, public) = Credentials::make_key()?;
        let ask = Ask::Enroll {
            secret: token.secret.text(),
            name: name.to_owned(),
            public_key: public.clone().into(),
        };
        let issued = ask_any(brokers, pinned(token.authority)?, &ask).await?;
        let about = About { id: issued.host, name: issued.name.clone(), brokers: brokers.to_vec() };
        issued.check(&public, issued.host, &key)?;
        let new = dir.with_extension("new");
        let made = (|| {
            match fs::remove_dir_all(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&new)
        })();
        made.map_err(|e| file(&new, e))?;
        write(&new.join(KEY), &key)?;
        write(&new.join(AUTHORITY), &issued.authority)?;
        write(&new.join(CERTIFICATE), &issued.certificate)?;
        let text = serde_json::to_string_pretty(&about).map_err(|e| file(&new, e))?;
        write(&new.join(HOST), &text)?;
        let replaced = (|| {
            match fs::remove_dir_all(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::rename(&new, dir)
        })();
        replaced.map_err(|e| file(dir, e))?;
        Ok(Self { dir: dir.to_owned(), about })
    }

    /// What it shows and checks, as it is on the disk now.
    ///
    /// # Errors
    /// [`Error`].
    pub fn credentials(&self) -> Result<Credentials, Error> {
        let of = |name| read(&self.dir.join(name));
        Ok(Credentials::load(&of(CERTIFICATE)?, &of(KEY)?, &of(AUTHORITY)?)?)
    }

    /// What changes with each certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<String> {
        read(&self.dir.join(CERTIFICATE)).ok()
    }

    /// Whether half of the certificate's life is over, by the age of its file.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let made = fs::metadata(self.dir.join(CERTIFICATE)).and_then(|about| about.modified());
        // One of the future was written when the clock was wrong.
        made.map_or(true, |made| made.elapsed().map_or(true, |age| age > VALID / 2))
    }

    /// Gets a new certificate.
    ///
    /// # Errors
    /// [`Error`]; the one before is kept.
    pub async fn renew(&self) -> Result<(), Error> {
        let key = read(&self.dir.join(KEY))?;
        let public = Credentials::public(&key)?;
        let authority = Credentials::authority(&read(&self.dir.join(AUTHORITY))?)?;
        let ask = Ask::Renew { host: self.about.id, public_key: public.clone().into() };
        let issued = ask_any(&self.about.brokers, pinned(authority)?, &ask).await?;
        issued.check(&public, self.about.id, &key)?;
        write(&self.dir.join(CERTIFICATE), &issued.certificate)
    }
}

struct Issued {
    host: HostId,
    name: String,
    certificate: String,
    authority: String,
}

impl Issued {
    /// That it is what was asked for.
    fn check(&self, key: &PublicKey, host: HostId, private: &str) -> Result<(), Error> {
        let credentials = Credentials::load(&self.certificate, private, &self.authority)?;
        let own = credentials.certificate();
        if PublicKey::of(own)? != *key || Role::of(own)? != Role::Host(host) {
            return Err(Error::Refused("it has sent a certificate that is not this host's".to_owned()));
        }
        Ok(())
    }
}

/// Asks one broker after the other until one answers.
async fn ask_any(brokers: &[String], config: Arc<ClientConfig>, ask: &Ask) -> Result<Issued, Error> {
    let mut failed = Vec::new();
    for broker in brokers {
        match ask_one(broker, Arc::clone(&config), ask).await {
            Ok(Answer::Issued { host, name, certificate, authority }) => {
                return Ok(Issued { host, name, certificate, authority });
            }
            Ok(Answer::Refused { reason }) => return Err(Error::Refused(reason)),
            Err(e) => failed.push(format!("{broker}: {e}")),
        }
    }
    Err(Error::Unreachable(failed.join("; ")))
}

/// Time for the answer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask_one(broker: &str, config: Arc<ClientConfig>, ask: &Ask) -> io::Result<Answer> {
    let web = |e: tungstenite::Error| io::Error::other(e.to_string());
    let exchange = async {
        let stream = dial::broker(broker, config).await?;
        let (mut socket, _) = tokio_tungstenite::client_async("ws://broker/enroll", stream)
            .await
            .map_err(|e| web_handshake(&e))?;
        socket.send(Message::text(serde_json::to_string(ask)?)).await.map_err(web)?;
        while let Some(message) = socket.next().await {
            if let Message::Text(text) = message.map_err(web)? {
                // The broker may be gone already.
                let _ = socket.close(None).await;
                return Ok(serde_json::from_str(&text)?);
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| late())?
}

fn web_handshake(e: &tungstenite::Error) -> io::Error {
    io::Error::other(format!("it is not a broker's door for hosts ({e}); is that its --agent-listen port?"))
}
