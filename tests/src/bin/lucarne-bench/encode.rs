//! Suite `encode`: the display benchmark's frames through comparison and encoders alone, on one thread.
//!
//! ```text
//! Scene ──► bytes of a guest's framebuffer ──► Screen (compare) ──► ViewerDamage ──► Encoder ──► bytes, decoded and compared
//!                                                   └──► FilmDetector ──────────────────┘
//! ```

use crate::display::{codecs, similarity, wrong_pixels};
use crate::report::Report;
use anyhow::{Result, ensure};
use clap::Args;
use lucarne_display::{Change, Encoder, Extras, FilmDetector, Rect, Screen, UNLIMITED, ViewerDamage};
use lucarne_player::{Area, Scene, Workload};
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
    /// The viewer's quality level, 0 to 9.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=9))]
    quality: u8,
    /// Only these of typing, scroll, drag, video and repaint.
    #[arg(long, value_delimiter = ',')]
    work: Vec<String>,
    /// Pixels.
    #[arg(long, default_value_t = 1280)]
    width: u16,
    /// Pixels.
    #[arg(long, default_value_t = 800)]
    height: u16,
}

/// Frames of each workload before those that count, so that a film is known as one.
const WARM_UP: u32 = 45;

/// Ways in which frames are encoded, at a viewer's quality level.
fn ways(quality: u8) -> [(&'static str, Vec<i32>); 5] {
    let lossy = enc::QUALITY_0 + i32::from(quality);
    let tight = [enc::TIGHT, enc::COPY_RECT, enc::LAST_RECT, enc::COMPRESSION_0 + 2];
    [
        ("tight_zrle", [&[enc::TIGHT, enc::ZRLE], &tight[1..], &[lossy]].concat()),
        ("tight_jpeg", [&tight[..], &[lossy]].concat()),
        ("tight_h264", [&tight[..], &[lossy, enc::OPEN_H264]].concat()),
        ("tight", tight.to_vec()),
        ("zrle", vec![enc::ZRLE, enc::COPY_RECT, enc::LAST_RECT]),
    ]
}

/// Time from a frame to the next: keys come ten times a second, all else thirty times.
fn period(workload: Workload) -> Duration {
    Duration::from_secs(1) / if workload == Workload::Typing { 10 } else { 30 }
}

/// Runs the suite.
pub fn measure(args: &EncodeArgs) -> Result<Report> {
    ensure!(args.width >= 800 && args.height >= 600, "the frames need at least 800x600 pixels");
    let mut report = Report { suite: "encode", ..Report::default() };
    let wanted = |w: &Workload| args.work.is_empty() || args.work.iter().any(|name| name == w.name());
    for workload in Workload::ALL.into_iter().filter(wanted) {
        for (name, encodings) in ways(args.quality) {
            let took = run(args, workload, &encodings)?;
            let frames = f64::from(args.frames);
            let mut add = |metric: &str, value: f64| {
                report.add(format!("{}_{name}_{metric}", workload.name()), value, None);
            };
            add("compare_us", took.compare.as_secs_f64() * 1e6 / frames);
            add("encode_us", took.encode.as_secs_f64() * 1e6 / frames);
            add("bytes", took.bytes as f64 / frames);
            add("moves", f64::from(took.moves));
            add("rects", took.rects as f64 / frames);
            add("ssim", took.ssim / frames);
        }
    }
    report.notes = vec![
        "Each by frame, but for moves: the frames in which a move was found.".into(),
        format!("{WARM_UP} frames before them are not counted, among them the first one of a film."),
        "ssim: of the brightness of what changed.".into(),
    ];
    Ok(report)
}

#[derive(Default)]
struct Took {
    compare: Duration,
    encode: Duration,
    bytes: usize,
    moves: u32,
    rects: usize,
    ssim: f64,
}

fn run(args: &EncodeArgs, workload: Workload, encodings: &[i32]) -> Result<Took> {
    let (width, height) = (args.width, args.height);
    let encodings = ClientEncodings::new(encodings.to_vec());
    let lossy = encodings.quality().is_some();
    let mut scene = Scene::new(workload, width, height);
    let mut screen = Screen::new(width.into(), height.into())?;
    let mut damage = ViewerDamage::new(&screen);
    let mut encoder = Encoder::new(PixelFormat::BGRX, encodings, width, height);
    let mut decoder = Decoder::with_codecs(codecs());
    let mut films = FilmDetector::new(width, height);
    let mut now = Duration::ZERO;
    let mut out = Vec::new();
    write::server_init(width, height, &PixelFormat::BGRX, "bench", &mut out);
    decode(&mut decoder, &out)?;
    let mut frame: Vec<u8> = scene.canvas().pixels().iter().flat_map(|p| p.to_le_bytes()).collect();
    let stride = usize::from(width) * 4;
    let mut took = Took::default();
    for number in 0..=WARM_UP + args.frames {
        now += period(workload);
        let areas = if number == 0 { vec![scene.canvas().area()] } else { scene.step() };
        for area in &areas {
            for y in area.y..area.y + area.h {
                let start = usize::from(y) * stride + usize::from(area.x) * 4;
                let row = scene.canvas().row(*area, y - area.y);
                frame[start..start + row.len() * 4]
                    .copy_from_slice(&row.iter().flat_map(|p| p.to_le_bytes()).collect::<Vec<_>>());
            }
        }
        let largest = areas.iter().copied().max_by_key(|a: &Area| u32::from(a.w) * u32::from(a.h));
        // As a guest's kernel does: one rectangle that holds all.
        let all = areas.into_iter().reduce(|a, b| a.bounding(b)).unwrap_or(scene.canvas().area());
        let began = Instant::now();
        let change: Change = screen.update(&frame, stride, Rect::new(all.x, all.y, all.w, all.h))?;
        films.note(&change, &screen, now);
        let compared = began.elapsed();
        damage.apply(&change);
        let changes = damage.take().with_films(films.films(now));
        out.clear();
        let began = Instant::now();
        let encoded = encoder.encode_update(&screen, changes, &Extras::default(), UNLIMITED, &mut out)?;
        let coded = began.elapsed();
        decode(&mut decoder, &out)?;
        if number > WARM_UP {
            took.compare += compared;
            took.encode += coded;
            took.bytes += out.len();
            took.moves += u32::from(change.copy.is_some());
            took.rects += encoded.rects;
            let area = largest.unwrap_or(scene.canvas().area());
            took.ssim += similarity(decoder.framebuffer(), scene.canvas(), area);
        }
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
