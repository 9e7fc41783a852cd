use super::*;

const MS: Duration = Duration::from_millis(1);

/// An update of damage that came then, with a millisecond for each stage.
fn drawn(received: Instant) -> Drawn {
    let arrival = Arrival { received, compared: received + MS, damages: 1 };
    let (taken, encoded) = (received + 2 * MS, received + 3 * MS);
    Drawn { arrival: Some(arrival), taken, encoded, pixels: 152, rects: 1, bytes: 40 }
}

fn sent(tracer: &Tracer, drawn: Drawn, fence: Option<[u8; 4]>) {
    tracer.sent(Some(drawn), fence, LinkFigures::default());
}

fn only(traces: &Traces) -> ViewerTrace {
    let mut viewers = traces.trace(usize::MAX).viewers;
    assert_eq!(viewers.len(), 1);
    viewers.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_keys_cost_is_told_stage_by_stage_and_the_stages_add_up_to_it() {
    let (traces, start) = (Traces::default(), Instant::now());
    let tracer = Tracer::new(&traces, None, false);
    tracer.input(InputKind::Key, start, start + MS);
    tokio::time::advance(10 * MS).await;
    sent(&tracer, drawn(start + 5 * MS), Some(*b"mine"));
    tracer.answered(b"mine", start + 30 * MS, LinkFigures::default());
    let update = only(&traces).recent.remove(0);
    assert_eq!((update.id.as_str(), update.input, update.damages), ("1.1", Some(InputKind::Key), 1));
    let known = [update.input_ms, update.guest_ms, update.compare_ms, update.wait_ms];
    assert_eq!(known, [Some(1.0), Some(4.0), Some(1.0), Some(1.0)]);
    assert_eq!((update.encode_ms, update.send_ms, update.present_ms), (1.0, 2.0, Some(20.0)));
    assert_eq!(update.total_ms, 30.0);
    let stages = only(&traces).stages;
    assert_eq!(stages.iter().map(|s| s.stage).collect::<Vec<_>>(), Stage::ALL);
    assert_eq!(stages.last().map(|s| s.p50_ms), Some(30.0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_before_the_writer_is_back_leaves_the_stages_adding_up() {
    let (traces, start) = (Traces::default(), Instant::now());
    let tracer = Tracer::new(&traces, None, false);
    tokio::time::advance(10 * MS).await;
    sent(&tracer, drawn(start), Some(*b"mine"));
    tracer.answered(b"mine", start + 8 * MS, LinkFigures::default());
    let update = only(&traces).recent.remove(0);
    assert_eq!((update.send_ms, update.present_ms, update.total_ms), (7.0, Some(0.0), 10.0));
}

#[tokio::test(start_paused = true)]
async fn the_ring_keeps_the_last_updates_without_growing() {
    let traces = Traces::default();
    let tracer = Tracer::new(&traces, None, true);
    let capacity = lock(&tracer.traced.log).records.capacity();
    for _ in 0..UPDATES + 10 {
        sent(&tracer, drawn(Instant::now()), None);
        tokio::time::advance(4 * MS).await;
    }
    let trace = only(&traces);
    assert_eq!((trace.updates, trace.recent.len()), (UPDATES as u64 + 10, UPDATES));
    assert_eq!(trace.recent[0].id, "1.11");
    assert_eq!(lock(&tracer.traced.log).records.capacity(), capacity);
    assert_eq!(traces.trace(3).viewers[0].recent.len(), 3);
    drop(tracer);
    assert!(traces.trace(3).viewers.is_empty(), "a viewer that has gone is still told of");
}

#[test]
fn percentiles_are_by_nearest_rank() {
    let of = |n: u32| times(Stage::Send, (1..=n).rev().map(f64::from).collect()).unwrap();
    let hundred = of(100);
    assert_eq!((hundred.p50_ms, hundred.p95_ms, hundred.p99_ms, hundred.max_ms), (50.0, 95.0, 99.0, 100.0));
    let three = of(3);
    assert_eq!((three.count, three.p50_ms, three.p99_ms, three.max_ms), (3, 2.0, 3.0, 3.0));
    assert_eq!(times(Stage::Send, Vec::new()), None);
}

#[tokio::test(start_paused = true)]
async fn damage_is_put_down_to_the_key_before_it_and_to_no_key_twice() {
    let (traces, start) = (Traces::default(), Instant::now());
    let tracer = Tracer::new(&traces, None, false);
    let at = |n: u32| start + n * MS;
    tracer.input(InputKind::Key, at(0), at(0));
    tracer.input(InputKind::Pointer, at(1), at(1));
    tracer.input(InputKind::Key, at(20), at(20));
    for received in [10, 15, 30, 5000] {
        sent(&tracer, drawn(at(received)), None);
    }
    tracer.input(InputKind::Key, at(5000), at(5000));
    sent(&tracer, drawn(at(9000)), None);
    let inputs: Vec<_> = only(&traces).recent.iter().map(|u| (u.input, u.guest_ms)).collect();
    let key = |ms| (Some(InputKind::Key), Some(ms));
    assert_eq!(inputs, [key(10.0), (None, None), key(10.0), (None, None), (None, None)]);
}

#[tokio::test(start_paused = true)]
async fn only_the_fence_behind_an_update_tells_of_its_present() {
    let (traces, start) = (Traces::default(), Instant::now());
    let tracer = Tracer::new(&traces, None, false);
    sent(&tracer, drawn(start), Some(*b"one."));
    sent(&tracer, drawn(start), None);
    let link = LinkFigures { answers: true, ..LinkFigures::default() };
    tracer.answered(b"foreign", start + 9 * MS, link);
    tracer.answered(b"one.", start + 9 * MS, link);
    tracer.answered(b"one.", start + 90 * MS, link);
    let trace = only(&traces);
    assert_eq!(trace.recent.iter().map(|u| u.present_ms).collect::<Vec<_>>(), [Some(9.0), None]);
    assert!(trace.link.answers);
}
