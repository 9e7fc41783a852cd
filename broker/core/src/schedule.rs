//! How many desktops of a pool should wait for users at a moment: by the clocks of a place, its days and its holidays.
//!
//! Windows are compared with what a clock on the wall there shows: in the night in which clocks are put forward, a window from
//! 02:15 begins at 03:00.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday as Day};
use jiff::tz::TimeZone;
use lucarne_control::pool::{ReadyPolicy, ReadyWindow, Weekday};

/// The most windows and holidays that one pool may have.
const MOST_WINDOWS: usize = 50;
const MOST_HOLIDAYS: usize = 400;

fn zone(policy: &ReadyPolicy) -> Result<TimeZone, String> {
    let Some(name) = &policy.time_zone else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| {
        format!("there is no time zone {name:?}; ready.time_zone is a name such as Europe/Berlin, or left out for UTC")
    })
}

fn date(text: &str) -> Result<Date, String> {
    let strict = text.len() == 10;
    text.parse()
        .ok()
        .filter(|_| strict)
        .ok_or_else(|| format!("a holiday is a day as YYYY-MM-DD, such as 2026-12-25, not {text:?}"))
}

/// A time of day; none for the end of the day.
fn time(text: &str) -> Result<Option<Time>, String> {
    if text == "24:00" {
        return Ok(None);
    }
    let parsed = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2);
    let parsed = parsed.and_then(|(h, m)| Time::new(h.parse().ok()?, m.parse().ok()?, 0, 0).ok());
    parsed.map(Some).ok_or_else(|| format!("a window's time is HH:MM from 00:00 to 24:00, not {text:?}"))
}

fn day(day: Weekday) -> Day {
    match day {
        Weekday::Mon => Day::Monday,
        Weekday::Tue => Day::Tuesday,
        Weekday::Wed => Day::Wednesday,
        Weekday::Thu => Day::Thursday,
        Weekday::Fri => Day::Friday,
        Weekday::Sat => Day::Saturday,
        Weekday::Sun => Day::Sunday,
    }
}

/// Says what is wrong with it.
///
/// # Errors
/// A sentence for the person who asked for it.
pub fn check(policy: &ReadyPolicy) -> Result<(), String> {
    let most = ReadyPolicy::MOST;
    let numbers = policy.windows.iter().map(|window| window.min).chain([policy.min]);
    if let Some(n) = numbers.into_iter().find(|n| *n > most) {
        return Err(format!("at most {most} desktops of a pool wait for users, not {n}"));
    }
    if policy.max_starting.is_some_and(|n| !(1..=1000).contains(&n)) {
        return Err("ready.max_starting is from 1 to 1000".to_owned());
    }
    if policy.windows.len() > MOST_WINDOWS || policy.holidays.len() > MOST_HOLIDAYS {
        return Err(format!("a pool has at most {MOST_WINDOWS} windows and {MOST_HOLIDAYS} holidays"));
    }
    zone(policy)?;
    for holiday in &policy.holidays {
        date(holiday)?;
    }
    for window in &policy.windows {
        time(&window.to)?;
        if time(&window.from)?.is_none() {
            return Err("a window begins at 24:00; write 00:00 and the next day".to_owned());
        }
    }
    Ok(())
}

/// Whether a window that begins on that day holds at that time.
fn holds(window: &ReadyWindow, begins: Date, now: DateTime) -> bool {
    let (Ok(Some(from)), Ok(to)) = (time(&window.from), time(&window.to)) else { return false };
    if !window.days.is_empty() && !window.days.iter().any(|d| day(*d) == begins.weekday()) {
        return false;
    }
    let (ends, to) = match to {
        Some(to) if to > from => (Ok(begins), to),
        // Until some time of the next day, or until its beginning.
        Some(to) => (begins.tomorrow(), to),
        None => (begins.tomorrow(), Time::midnight()),
    };
    let begins = begins.to_datetime(from);
    ends.is_ok_and(|ends| begins <= now && now < ends.to_datetime(to))
}

/// How many desktops should wait at `now`, milliseconds since the epoch.
#[must_use]
pub fn ready(policy: &ReadyPolicy, now: i64) -> u32 {
    if policy.windows.is_empty() {
        return policy.min;
    }
    let (Ok(zone), Ok(now)) = (zone(policy), Timestamp::from_millisecond(now)) else { return policy.min };
    let now = zone.to_datetime(now);
    let days = [Some(now.date()), now.date().yesterday().ok()];
    let works = |d: &Date| !policy.holidays.iter().any(|holiday| date(holiday).as_ref() == Ok(d));
    let days: Vec<Date> = days.into_iter().flatten().filter(works).collect();
    let holding = policy.windows.iter().filter(|window| days.iter().any(|day| holds(window, *day, now)));
    holding.map(|window| window.min).max().unwrap_or(policy.min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn window(days: &[Weekday], from: &str, to: &str, min: u32) -> ReadyWindow {
        ReadyWindow { days: days.to_vec(), from: from.to_owned(), to: to.to_owned(), min }
    }

    fn berlin(windows: Vec<ReadyWindow>) -> ReadyPolicy {
        ReadyPolicy { min: 1, windows, time_zone: Some("Europe/Berlin".to_owned()), ..Default::default() }
    }

    #[test]
    fn a_window_goes_by_the_clocks_of_its_place_in_summer_and_in_winter() {
        let office = berlin(vec![window(&[Weekday::Mon, Weekday::Fri], "08:00", "18:00", 9)]);
        // 2026-07-03 is a Friday, two hours ahead of UTC; 2026-11-20 is one, an hour ahead.
        for (when, ready_then) in [
            ("2026-07-03T05:59:59Z", 1),
            ("2026-07-03T06:00:00Z", 9),
            ("2026-07-03T15:59:59Z", 9),
            ("2026-07-03T16:00:00Z", 1),
            ("2026-11-20T06:30:00Z", 1),
            ("2026-11-20T07:00:00Z", 9),
            ("2026-11-19T09:00:00Z", 1),
        ] {
            assert_eq!(ready(&office, at(when)), ready_then, "{when}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = berlin(vec![window(&[Weekday::Fri], "22:00", "06:00", 5)]);
        assert_eq!(ready(&night, at("2026-11-20T21:30:00Z")), 5);
        assert_eq!(ready(&night, at("2026-11-21T04:59:00Z")), 5, "Saturday morning");
        assert_eq!(ready(&night, at("2026-11-21T05:00:00Z")), 1);
        assert_eq!(ready(&night, at("2026-11-20T04:00:00Z")), 1, "Friday morning");
        let day = berlin(vec![window(&[], "00:00", "24:00", 3)]);
        assert_eq!(ready(&day, at("2026-11-20T22:59:59Z")), 3);
    }

    #[test]
    fn no_window_begins_on_a_holiday_and_of_several_the_largest_counts() {
        let mut policy = berlin(vec![
            window(&[], "08:00", "18:00", 4),
            window(&[], "09:00", "10:00", 7),
            window(&[], "09:30", "09:45", 2),
        ]);
        policy.holidays = vec!["2026-12-25".to_owned()];
        assert_eq!(ready(&policy, at("2026-12-24T08:40:00Z")), 7);
        assert_eq!(ready(&policy, at("2026-12-25T08:40:00Z")), 1);
    }

    #[test]
    fn a_window_may_want_fewer_than_otherwise() {
        let policy =
            ReadyPolicy { min: 5, windows: vec![window(&[], "20:00", "21:00", 0)], ..Default::default() };
        assert_eq!(ready(&policy, at("2026-11-20T20:30:00Z")), 0);
        assert_eq!(ready(&policy, at("2026-11-20T21:30:00Z")), 5);
    }

    #[test]
    fn what_is_no_schedule_is_said_in_a_sentence() {
        let said = |change: fn(&mut ReadyPolicy)| {
            let mut policy = berlin(vec![window(&[], "08:00", "18:00", 4)]);
            change(&mut policy);
            check(&policy).unwrap_err()
        };
        assert_eq!(check(&berlin(vec![window(&[], "08:00", "24:00", 4)])), Ok(()));
        assert!(said(|p| p.time_zone = Some("Mars/Olympus".to_owned())).contains("Mars/Olympus"));
        assert!(said(|p| p.windows[0].from = "8:00".to_owned()).contains("\"8:00\""));
        assert!(said(|p| p.windows[0].from = "24:00".to_owned()).contains("next day"));
        assert!(said(|p| p.windows[0].to = "24:01".to_owned()).contains("24:01"));
        assert!(said(|p| p.holidays.push("25.12.2026".to_owned())).contains("25.12.2026"));
        assert!(said(|p| p.windows[0].min = 20_000).contains("20000"));
        assert!(said(|p| p.max_starting = Some(0)).contains("max_starting"));
    }
}
