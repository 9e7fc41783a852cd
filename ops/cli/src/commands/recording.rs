//! `lucarne recording`: what was recorded on this host. It reads files, and asks no server.

use crate::args::{Output, Recording, RecordingCommand};
use crate::output::{self, Row};
use anyhow::{Context, Result};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use lucarne_recording::Recording as Tape;
use lucarne_rfb::client::Framebuffer;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// One recording of the list.
#[derive(Serialize)]
struct Listed {
    file: String,
    desktop: String,
    name: String,
    session: Option<String>,
    pool: Option<String>,
    started_at: i64,
    duration_s: f64,
    bytes: u64,
    /// It has its end: else it is being written, or was cut off.
    ended: bool,
}

impl Row for Listed {
    const TITLES: &'static [&'static str] =
        &["FILE", "DESKTOP", "SESSION", "BEGAN", "DURATION", "SIZE", "ENDED"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.file.clone(),
            self.name.clone(),
            self.session.clone().unwrap_or_else(|| "-".into()),
            output::age(self.started_at),
            clock(Duration::from_secs_f64(self.duration_s)),
            output::size(self.bytes),
            if self.ended { "yes".into() } else { "no".into() },
        ]
    }
}

/// What a check found.
#[derive(Serialize)]
struct Checked {
    desktop: String,
    name: String,
    session: Option<String>,
    started_at: i64,
    duration_s: f64,
    bytes: u64,
    blocks: u64,
    key_frames: u64,
    updates: u64,
    /// Bytes of a last block that was not written to its end.
    cut_off_bytes: u64,
    ended: bool,
    /// The last hash of the chain, SHA-256.
    hash: String,
}

/// Runs the command.
pub fn run(args: Recording) -> Result<()> {
    match args.command {
        RecordingCommand::List { data } => list(&data.data_dir.join("host/recordings"), args.output),
        RecordingCommand::Check { file } => check(&file, args.output),
        RecordingCommand::Frame { file, out, at } => frame(&file, &out, seconds(&at)?),
    }
}

fn open(path: &Path) -> Result<Tape<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    Tape::open(BufReader::new(file)).with_context(|| path.display().to_string())
}

fn list(folder: &Path, output: Output) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return output::list::<Listed>(&[], output),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", folder.display())),
    };
    let mut listed = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "lrec") || std::fs::metadata(&path)?.len() == 0 {
            continue;
        }
        match open(&path) {
            Ok(tape) => {
                let header = tape.header();
                listed.push(Listed {
                    file: path.display().to_string(),
                    desktop: header.desktop.clone(),
                    name: header.name.clone(),
                    session: header.session.clone(),
                    pool: header.pool.clone(),
                    started_at: begin(header.started_at_ms),
                    duration_s: tape.duration().as_secs_f64(),
                    bytes: tape.length(),
                    ended: tape.ended(),
                });
            }
            Err(error) => eprintln!("lucarne: {}", crate::exit::chain(&error)),
        }
    }
    listed.sort_by_key(|l| l.started_at);
    output::list(&listed, output)
}

fn begin(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

fn check(path: &Path, output: Output) -> Result<()> {
    let mut tape = open(path)?;
    let found = tape.check().with_context(|| path.display().to_string())?;
    let header = tape.header().clone();
    output::show(
        &Checked {
            desktop: header.desktop,
            name: header.name,
            session: header.session,
            started_at: begin(header.started_at_ms),
            duration_s: found.duration.as_secs_f64(),
            bytes: found.bytes,
            blocks: found.blocks,
            key_frames: found.keys,
            updates: found.updates,
            cut_off_bytes: found.length - found.bytes,
            ended: found.ended,
            hash: found.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
        output,
    )
}

fn frame(path: &Path, out: &Path, at: Duration) -> Result<()> {
    let frame = open(path)?.frame(at).with_context(|| path.display().to_string())?;
    let file = File::create(out).with_context(|| format!("{} cannot be written", out.display()))?;
    png(&frame.screen, BufWriter::new(file))
        .with_context(|| format!("{} cannot be written", out.display()))?;
    println!(
        "{}×{} pixels, as they were since {}",
        frame.screen.width(),
        frame.screen.height(),
        clock(frame.at)
    );
    Ok(())
}

/// A PNG (W3C, Portable Network Graphics) of 8-bit RGB without filters. Crates that write it bring a second copy of crates that
/// we have.
fn png(screen: &Framebuffer, mut out: impl Write) -> io::Result<()> {
    let mut header = [screen.width(), screen.height()].map(|side| u32::from(side).to_be_bytes()).concat();
    // Depth, colour type RGB, and the only methods that there are.
    header.extend([8, 2, 0, 0, 0]);
    let mut data = ZlibEncoder::new(Vec::new(), Compression::new(6));
    for row in screen.pixels().chunks_exact(usize::from(screen.width()).max(1)) {
        data.write_all(&[0])?;
        let bytes: Vec<u8> = row.iter().flat_map(|p| [(p >> 16) as u8, (p >> 8) as u8, *p as u8]).collect();
        data.write_all(&bytes)?;
    }
    out.write_all(b"\x89PNG\r\n\x1a\n")?;
    for (kind, data) in [(b"IHDR", header), (b"IDAT", data.finish()?), (b"IEND", Vec::new())] {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(&data);
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        out.write_all(&[&length.to_be_bytes(), &kind[..], &data, &crc.sum().to_be_bytes()].concat())?;
    }
    out.flush()
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let s = time.as_secs();
    format!("{}:{:02}:{:02}.{:01}", s / 3600, s / 60 % 60, s % 60, time.subsec_millis() / 100)
}

fn seconds(text: &str) -> Result<Duration> {
    let wrong = || format!("--at is seconds, M:S or H:M:S, such as 1:30.5, not {text:?}");
    let parts: Vec<f64> = text.split(':').map(str::parse).collect::<Result<_, _>>().with_context(wrong)?;
    let (good, sum) = (parts.len() <= 3, parts.iter().fold(0.0, |sum, part| sum * 60.0 + part));
    let all = parts.iter().all(|part| *part >= 0.0);
    Some(sum)
        .filter(|_| good && all)
        .and_then(|sum| Duration::try_from_secs_f64(sum).ok())
        .with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let ms = |text: &str| seconds(text).map(|time| time.as_millis()).ok();
        assert_eq!(
            ["90", "1:30", "0:01:30", "1.5", "1:00:00.25"].map(ms),
            [90_000, 90_000, 90_000, 1500, 3_600_250].map(Some)
        );
        assert_eq!(["", "-1", "1:2:3:4", "a", "1:-5", "nan", "inf"].map(ms), [None; 7]);
        assert_eq!(clock(Duration::from_millis(3_690_250)), "1:01:30.2");
    }

    #[test]
    fn a_screen_is_written_as_png_pixel_by_pixel() {
        let mut out = Vec::new();
        png(&Framebuffer::new(3, 2).unwrap(), &mut out).unwrap();
        assert_eq!(out[..16], *b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR");
        assert_eq!(out[16..29], [0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
        // The end has no data, so its CRC is a constant.
        assert_eq!(out[out.len() - 12..], *b"\0\0\0\0IEND\xae\x42\x60\x82");
        let mut pixels = Vec::new();
        let data = &out[41..out.len() - 16];
        std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(data), &mut pixels).unwrap();
        assert_eq!(pixels, [0; 2 * (1 + 3 * 3)]);
    }
}
