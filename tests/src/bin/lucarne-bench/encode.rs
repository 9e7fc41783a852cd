//! Suite `encode`: the display benchmark's frames through comparison and encoders alone, on one thread.
//!
//! ```text
//! Scene ──► bytes of a guest's framebuffer ──► Screen (compare) ──► ViewerDamage ──► Encoder ──► bytes, decoded and compared
//! ```

use crate::display::{decode_jpeg, wrong_pixels};
use crate::report::Report;
use anyhow::{Result, ensure};
use clap::Args;
use lucarne_display::{Change, Encoder, Extras, Rect, Screen, UNLIMITED, ViewerDamage};
use lucarne_player::{Scene, Workload};
use lucarne_rfb::client::Viewer as Decoder;
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::write;
use lucarne_rfb::{ClientEncodings, PixelFormat};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the suite takes.
#[derive(Args, Clone)]
pub struct EncodeArgs {
    /// File for the figures.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Frames of each workload.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frames: u32,
    /// Pixels.
    #[arg(long, default_value_t = 1280)]
    width: u16,
    /// Pixels.
    #[arg(long, default_value_t = 800)]
    height: u16,
}

/// Ways in which frames are encoded.
const WAYS: [(&str, &[i32]); 4] = [
    (
        "tight_zrle",
        &[enc::TIGHT, enc::ZRLE, enc::COPY_RECT, enc::LAST_RECT, enc::QUALITY_0 + 8, enc::COMPRESSION_0 + 2],
    ),
    ("tight_jpeg", &[enc::TIGHT, enc::COPY_RECT, enc::LAST_RECT, enc::QUALITY_0 + 8, enc::COMPRESSION_0 + 2]),
    ("tight", &[enc::TIGHT, enc::COPY_RECT, enc::LAST_RECT, enc::COMPRESSION_0 + 2]),
    ("zrle", &[enc::ZRLE, enc::COPY_RECT, enc::LAST_RECT]),
];

/// Runs the suite.
pub fn measure(args: &EncodeArgs) -> Result<Report> {
    ensure!(args.width >= 800 && args.height >= 600, "the frames need at least 800x600 pixels");
    let mut report = Report { suite: "encode", ..Report::default() };
    for workload in Workload::ALL {
        for (name, encodings) in WAYS {
            let took = run(args, workload, encodings)?;
            let frames = f64::from(args.frames);
            let mut add = |metric: &str, value: f64| {
                report.add(format!("{}_{name}_{metric}", workload.name()), value, None);
            };
            add("compare_us", took.compare.as_secs_f64() * 1e6 / frames);
            add("encode_us", took.encode.as_secs_f64() * 1e6 / frames);
            add("bytes", took.bytes as f64 / frames);
            add("moves", f64::from(took.moves));
            add("rects", took.rects as f64 / frames);
        }
    }
    report.notes = vec!["Each by frame, but for moves: the frames in which a move was found.".into()];
    Ok(report)
}

#[derive(Default)]
struct Took {
    compare: Duration,
    encode: Duration,
    bytes: usize,
    moves: u32,
    rects: usize,
}

fn run(args: &EncodeArgs, workload: Workload, encodings: &[i32]) -> Result<Took> {
    let (width, height) = (args.width, args.height);
    let encodings = ClientEncodings::new(encodings.to_vec());
    let lossy = encodings.quality().is_some();
    let mut scene = Scene::new(workload, width, height);
    let mut screen = Screen::new(width.into(), height.into())?;
    let mut damage = ViewerDamage::new(&screen);
    let mut encoder = Encoder::new(PixelFormat::BGRX, encodings, width, height);
    let mut decoder = Decoder::new(Some(Box::new(decode_jpeg)));
    let mut out = Vec::new();
    write::server_init(width, height, &PixelFormat::BGRX, "bench", &mut out);
    decode(&mut decoder, &out)?;
    let mut frame: Vec<u8> = scene.canvas().pixels().iter().flat_map(|p| p.to_le_bytes()).collect();
    let stride = usize::from(width) * 4;
    let mut took = Took::default();
    for number in 0..=args.frames {
        let areas = if number == 0 { vec![scene.canvas().area()] } else { scene.step() };
        for area in &areas {
            for y in area.y..area.y + area.h {
                let start = usize::from(y) * stride + usize::from(area.x) * 4;
                let row = scene.canvas().row(*area, y - area.y);
                frame[start..start + row.len() * 4]
                    .copy_from_slice(&row.iter().flat_map(|p| p.to_le_bytes()).collect::<Vec<_>>());
            }
        }
        // As a guest's kernel does: one rectangle that holds all.
        let all = areas.into_iter().reduce(|a, b| a.bounding(b)).unwrap_or(scene.canvas().area());
        let began = Instant::now();
        let change: Change = screen.update(&frame, stride, Rect::new(all.x, all.y, all.w, all.h))?;
        let compared = began.elapsed();
        damage.apply(&change);
        out.clear();
        let began = Instant::now();
        let encoded =
            encoder.encode_update(&screen, damage.take(), &Extras::default(), UNLIMITED, &mut out)?;
        if number > 0 {
            took.compare += compared;
            took.encode += began.elapsed();
            took.bytes += out.len();
            took.moves += u32::from(change.copy.is_some());
            took.rects += encoded.rects;
        }
        decode(&mut decoder, &out)?;
    }
    let wrong = wrong_pixels(decoder.framebuffer(), scene.canvas());
    ensure!(lossy || wrong == 0, "{}: {wrong} pixels are wrong after lossless coding", workload.name());
    Ok(took)
}

fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<()> {
    decoder.feed(bytes)?;
    while decoder.next_event()?.is_some() {}
    Ok(())
}
