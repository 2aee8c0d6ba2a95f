//! Sizes and times as people write them: `256M`, `5s`.

use std::time::Duration;

/// Reads a number of bytes: `4096`, `512K`, `256M`, `1.5G`, `256MiB`; the units are powers of 1024.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or("a size is a number with K, M or G, as in 256M")?;
    let unit = unit.to_ascii_uppercase();
    let shift = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("the units of size are K, M, G and T".into()),
    };
    let bytes = number * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2));
    if bytes < 1.0 {
        return Err("the size must be more than zero".into());
    }
    if bytes > 2_f64.powi(62) {
        return Err("no machine has so much memory".into());
    }
    Ok(bytes as u64)
}

/// Reads a time: `5s`, `500ms`, `1.5m`, `2h`; a bare number is seconds.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or("a time is a number with ms, s, m or h, as in 5s")?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("the units of time are ms, s, m and h".into()),
    };
    if seconds < 0.001 {
        return Err("the time must be at least 1ms".into());
    }
    if seconds > 1e9 {
        return Err("nobody waits so long".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A size for people: three digits and a unit.
pub(crate) fn bytes(count: u64) -> String {
    let mut size = count as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            let digits = if unit == "bytes" || size.fract() == 0.0 {
                0
            } else {
                1
            };
            return format!("{size:.digits$} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// A time for people.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!(
            "{} min {} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

/// Number and unit; `None` where the number is none, or below zero.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_with_or_without_ib() {
        assert_eq!(parse_bytes("1"), Ok(1));
        assert_eq!(parse_bytes("256M"), Ok(256 << 20));
        assert_eq!(parse_bytes("256 MiB"), Ok(256 << 20));
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        assert_eq!(parse_bytes("64kb"), Ok(64 << 10));
    }

    #[test]
    fn sizes_that_are_none_or_zero_or_absurd_are_refused() {
        for text in [
            "",
            "0",
            "0M",
            "-1M",
            "M",
            "12 parsecs",
            "1e3",
            "9999999999T",
            "..",
            "NaN",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_seconds_unless_said_otherwise() {
        assert_eq!(parse_time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("1.5 m"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn times_that_are_none_or_zero_or_absurd_are_refused() {
        for text in [
            "",
            "0",
            "0s",
            "0.0001ms",
            "-5s",
            "5 parsecs",
            "s",
            "1e99h",
            "99999999999h",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_read_three_digits_and_a_unit() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(900_000_000), "858.3 MiB");
        assert_eq!(time(Duration::from_millis(250)), "250 ms");
        assert_eq!(time(Duration::from_secs(5)), "5.0 s");
        assert_eq!(time(Duration::from_secs(3600)), "60 min 0 s");
    }
}
