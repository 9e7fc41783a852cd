//! The receiving end of what the guest plays: `org.qemu.Display1.AudioOutListener` (QEMU's `ui/dbus-display1.xml`).
//!
//! QEMU calls without waiting for an answer, every 10 ms while the guest has its sound card open, and mixes and resamples to
//! the one format that its command line asks for. With nobody registered it plays into the void in the guest's own time, and
//! it takes one listener of a peer at a time. What it says is not trusted: another format is refused, and lengths are bounded.

use lucarne_driver::{AudioSink, CHANNELS, SAMPLE_RATE};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use zbus::connection::Builder;
use zbus::{Connection, Message, MessageStream};

const AUDIO: &str = "/org/qemu/Display1/Audio";
const AUDIO_INTERFACE: &str = "org.qemu.Display1.Audio";
const LISTENER_INTERFACE: &str = "org.qemu.Display1.AudioOutListener";

/// The most bytes of one call: a second of sound. QEMU sends a hundredth.
const MAX_BYTES: usize = SAMPLE_RATE as usize * CHANNELS * 2;

/// QEMU may not have noticed yet that the listener of a former owner is gone; it is asked again so often at most.
const ATTEMPTS: u32 = 50;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What one QEMU plays, for as long as this lives.
pub(crate) struct Audio(tokio::task::JoinHandle<()>);

impl Drop for Audio {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Audio {
    /// Registers for what is played, and takes it.
    pub(crate) fn start(connection: Connection, sink: Arc<dyn AudioSink>) -> Self {
        Self(tokio::spawn(async move {
            for attempt in 1.. {
                match register(&connection).await {
                    Ok(stream) => return Listener::new(sink).serve(stream).await,
                    Err(error) if attempt == ATTEMPTS => {
                        tracing::warn!(%error, "the guest will not be heard");
                        return;
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        }))
    }
}

async fn register(display: &Connection) -> zbus::Result<MessageStream> {
    let (ours, theirs) = UnixStream::pair()?;
    // QEMU authenticates to the listener while it handles the call: both sides must run at once.
    let serve = Builder::unix_stream(ours).p2p().build_message_stream();
    let theirs = zbus::Fd::from(OwnedFd::from(theirs));
    let body = (theirs,);
    let call = display.call_method(None::<&str>, AUDIO, Some(AUDIO_INTERFACE), "RegisterOutListener", &body);
    tokio::pin!(serve, call);
    // A call that fails leaves nobody at the other end of the pair.
    tokio::select! {
        stream = &mut serve => {
            let stream = stream?;
            call.await?;
            Ok(stream)
        }
        answer = &mut call => {
            answer?;
            serve.await
        }
    }
}

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
enum AudioError {
    #[error("{0}")]
    Bus(#[from] zbus::Error),
    #[error("{0}")]
    Bad(String),
}

/// A stream's format as `Init` tells it: bits, signed, float, samples a second, channels, bytes of a frame, bytes a second,
/// big-endian.
type Format = (u8, bool, bool, u32, u8, u32, u32, bool);

/// Takes QEMU's calls.
struct Listener {
    sink: Arc<dyn AudioSink>,
    /// The stream that is heard. There is one voice, so another follows it and does not play beside it.
    stream: Option<u64>,
    /// Of left and right, 0 to 255.
    volume: [u8; CHANNELS],
    samples: Vec<i16>,
}

impl Listener {
    fn new(sink: Arc<dyn AudioSink>) -> Self {
        Self { sink, stream: None, volume: [u8::MAX; CHANNELS], samples: Vec::new() }
    }

    /// Takes calls until QEMU closes the stream.
    async fn serve(mut self, mut stream: MessageStream) {
        use futures_util::StreamExt;
        let connection = Connection::from(&stream);
        while let Some(Ok(message)) = stream.next().await {
            if message.message_type() != zbus::message::Type::MethodCall {
                continue;
            }
            let answer = self.handle(&message);
            if let Err(error) = &answer {
                tracing::warn!(%error, "an audio message from the hypervisor was refused");
            }
            if message.primary_header().flags().contains(zbus::message::Flags::NO_REPLY_EXPECTED) {
                continue;
            }
            let header = message.header();
            let _ = match answer {
                Ok(()) => connection.reply(&header, &()).await,
                Err(error) => {
                    let name = "org.freedesktop.DBus.Error.InvalidArgs";
                    connection.reply_error(&header, name, &error.to_string()).await
                }
            };
        }
        self.sink.stopped();
    }

    fn handle(&mut self, message: &Message) -> Result<(), AudioError> {
        let header = message.header();
        if header.interface().is_none_or(|i| i.as_str() != LISTENER_INTERFACE) {
            return Ok(());
        }
        let body = message.body();
        match header.member().map_or("", |m| m.as_str()) {
            "Init" => {
                let (id, bits, signed, float, rate, channels, frame, second, big): (
                    u64,
                    u8,
                    bool,
                    bool,
                    u32,
                    u8,
                    u32,
                    u32,
                    bool,
                ) = body.deserialize()?;
                self.init(id, (bits, signed, float, rate, channels, frame, second, big))
            }
            "Fini" => {
                let id: u64 = body.deserialize()?;
                if self.stream == Some(id) {
                    self.stream = None;
                    self.sink.stopped();
                }
                Ok(())
            }
            "SetEnabled" => {
                let (id, enabled): (u64, bool) = body.deserialize()?;
                if self.stream == Some(id) && !enabled {
                    self.sink.stopped();
                }
                Ok(())
            }
            "SetVolume" => {
                let (id, mute, volume): (u64, bool, Vec<u8>) = body.deserialize()?;
                if self.stream == Some(id) {
                    let of = |channel: usize| volume.get(channel).or(volume.first()).copied();
                    self.volume = [0, 1].map(|c| if mute { 0 } else { of(c).unwrap_or(u8::MAX) });
                }
                Ok(())
            }
            "Write" => {
                let (id, data): (u64, Vec<u8>) = body.deserialize()?;
                self.write(id, &data)
            }
            // The standard interfaces, and what later versions add.
            _ => Ok(()),
        }
    }

    fn init(&mut self, id: u64, format: Format) -> Result<(), AudioError> {
        let frame = CHANNELS as u32 * 2;
        let wanted = (16, true, false, SAMPLE_RATE, CHANNELS as u8, frame, frame * SAMPLE_RATE, false);
        if format != wanted {
            let (bits, signed, float, rate, channels, .., big) = format;
            return Err(AudioError::Bad(format!(
                "a stream of {channels} channels with {rate} samples a second of {bits} bits (signed: {signed}, floating \
                 point: {float}, big-endian: {big}) is not what was asked for"
            )));
        }
        self.stream = Some(id);
        self.volume = [u8::MAX; CHANNELS];
        Ok(())
    }

    fn write(&mut self, id: u64, data: &[u8]) -> Result<(), AudioError> {
        if self.stream != Some(id) {
            return Ok(());
        }
        if data.len() > MAX_BYTES || !data.len().is_multiple_of(CHANNELS * 2) {
            return Err(AudioError::Bad(format!("{} bytes of sound at once", data.len())));
        }
        self.samples.clear();
        self.samples.extend(data.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
        if self.volume != [u8::MAX; CHANNELS] {
            for frame in self.samples.chunks_exact_mut(CHANNELS) {
                for (sample, volume) in frame.iter_mut().zip(self.volume) {
                    // Fits: the factor is at most one.
                    *sample = (i32::from(*sample) * i32::from(volume) / i32::from(u8::MAX)) as i16;
                }
            }
        }
        self.sink.samples(&self.samples);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const STANDARD: Format = (16, true, false, 48_000, 2, 4, 192_000, false);

    #[derive(Default)]
    struct Record(Mutex<Vec<Vec<i16>>>);

    impl AudioSink for Record {
        fn samples(&self, samples: &[i16]) {
            self.0.lock().unwrap().push(samples.to_vec());
        }
        fn stopped(&self) {
            self.0.lock().unwrap().push(Vec::new());
        }
    }

    fn listener() -> (Arc<Record>, Listener) {
        let record = Arc::new(Record::default());
        (record.clone(), Listener::new(record))
    }

    #[test]
    fn another_format_than_the_one_asked_for_is_refused_and_not_heard() {
        let (record, mut listener) = listener();
        for format in [
            (8, true, false, 48_000, 2, 4, 192_000, false),
            (16, true, false, 44_100, 2, 4, 176_400, false),
            (16, true, false, 48_000, 1, 2, 96_000, false),
            (16, true, false, 48_000, 2, 4, 192_000, true),
        ] {
            assert!(listener.init(5, format).is_err(), "{format:?}");
        }
        listener.write(5, &[1, 0, 1, 0]).unwrap();
        assert!(record.0.lock().unwrap().is_empty());
    }

    #[test]
    fn broken_frames_and_endless_ones_are_refused() {
        let (record, mut listener) = listener();
        listener.init(5, STANDARD).unwrap();
        assert!(listener.write(5, &[0; 6]).is_err());
        assert!(listener.write(5, &vec![0; MAX_BYTES + 4]).is_err());
        listener.write(6, &[0; 4]).unwrap();
        assert!(record.0.lock().unwrap().is_empty());
    }

    async fn call<B>(qemu: &Connection, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        let path = "/org/qemu/Display1/AudioOutListener";
        qemu.call_method(None::<&str>, path, Some(LISTENER_INTERFACE), member, body).await
    }

    /// The calls of a QEMU, over a real connection.
    #[tokio::test]
    async fn what_is_played_is_heard_with_its_volume_until_it_stops() {
        let (record, listener) = listener();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guid = zbus::Guid::generate();
        let server = Builder::unix_stream(theirs).server(guid).p2p().build();
        let client = Builder::unix_stream(ours).p2p().build_message_stream();
        let (qemu, stream) = tokio::join!(server, client);
        let (qemu, served) = (qemu.unwrap(), tokio::spawn(listener.serve(stream.unwrap())));

        let (bits, signed, float, rate, channels, frame, second, big) = STANDARD;
        let init = (7u64, bits, signed, float, rate, channels, frame, second, big);
        let bytes: Vec<u8> = [100i16, -200, 300, -400].iter().flat_map(|s| s.to_le_bytes()).collect();
        let write = (7u64, bytes);
        call(&qemu, "Init", &init).await.unwrap();
        call(&qemu, "Write", &write).await.unwrap();
        call(&qemu, "SetVolume", &(7u64, false, vec![255u8, 127])).await.unwrap();
        call(&qemu, "Write", &write).await.unwrap();
        call(&qemu, "SetEnabled", &(7u64, false)).await.unwrap();
        assert_eq!(
            *record.0.lock().unwrap(),
            [vec![100, -200, 300, -400], vec![100, -99, 300, -199], vec![]]
        );
        assert!(call(&qemu, "Write", &(7u64, vec![0u8; 3])).await.is_err());
        drop(qemu);
        served.await.unwrap();
    }
}
