//! Durations and sizes as people write and read them.

use std::time::Duration;

/// Parses a duration such as `200ms`, `5s`, `1.5s`, `2m` or `1m30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write it like 200ms, 5s, 1.5s or 2m");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = prefix(rest, |c| c.is_ascii_digit() || c == '.');
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = prefix(after, char::is_alphabetic);
        let (unit, after) = after.split_at(letters);
        rest = after.trim_start();
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "" => {
                return Err(format!(
                    "'{text}' has no unit; write {text}s for seconds, {text}ms for milliseconds"
                ));
            }
            _ => return Err(wrong()),
        };
        total = Duration::try_from_secs_f64(number * seconds)
            .ok()
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("'{text}' is too long a duration"))?;
    }
    Ok(total)
}

/// Parses a size such as `65536`, `64KiB`, `64k` or `1MiB`; a `K` is 1024 bytes.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is not a size; write it like 4096, 64KiB or 1MiB");
    let text = text.trim();
    let (number, unit) = text.split_at(prefix(text, |c| c.is_ascii_digit()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        _ => return Err(wrong()),
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(wrong)
}

fn prefix(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of(c)).unwrap_or(text.len())
}

/// A duration as [`parse_duration`] reads it back, to the microsecond.
pub(crate) fn exact(span: Duration) -> String {
    let micros = span.as_micros();
    if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1_000) {
        format!("{}ms", micros / 1_000)
    } else {
        format!("{micros}us")
    }
}

/// A duration at a glance: three digits and a unit.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds >= 3600.0 {
        format!("{} h {:02} min", span.as_secs() / 3600, span.as_secs() / 60 % 60)
    } else if seconds >= 99.95 {
        format!("{} min {:02} s", span.as_secs() / 60, span.as_secs() % 60)
    } else if seconds >= 0.9995 {
        digits(seconds, "s")
    } else if seconds >= 0.000_999_5 {
        digits(seconds * 1e3, "ms")
    } else {
        format!("{} µs", span.as_micros())
    }
}

/// An age that is known to the millisecond.
pub(crate) fn age(millis: u64) -> String {
    if millis < 1_000 {
        return format!("{millis} ms");
    }
    span(Duration::from_millis(millis))
}

/// A number of bytes at a glance.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.5 || unit == "TiB" {
            return if unit == "bytes" {
                plural(count, "byte")
            } else {
                digits(value, unit)
            };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit takes everything")
}

/// A whole number with its digits in groups of three.
pub(crate) fn grouped(count: u64) -> String {
    let plain = count.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2 files`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(count))
}

fn digits(value: f64, unit: &str) -> String {
    if value >= 99.95 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("5s", ms(5_000)),
            ("200ms", ms(200)),
            ("0.2s", ms(200)),
            ("1.5 s", ms(1_500)),
            ("2m", ms(120_000)),
            ("1m30s", ms(90_000)),
            ("1h 30min", ms(5_400_000)),
            ("250us", Duration::from_micros(250)),
            ("0s", ms(0)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_durations_say_what_is_right() {
        assert!(parse_duration("5").unwrap_err().contains("write 5s for seconds"));
        for text in ["", "s", "five", "5x", "-5s", "1..2s", "5 s s", "."] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("write"), "{text}: {error}");
        }
        assert!(
            parse_duration("99999999999999999999999h")
                .unwrap_err()
                .contains("too long")
        );
    }

    #[test]
    fn exact_durations_come_back() {
        for micros in [1, 200_000, 1_500_000, 5_000_000, 90_000_000] {
            let span = Duration::from_micros(micros);
            assert_eq!(parse_duration(&exact(span)), Ok(span));
        }
        assert_eq!(exact(Duration::from_millis(200)), "200ms");
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("1", 1),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("1 MiB", 1 << 20),
            ("10B", 10),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "1.5k", "64GiB", "99999999999999999999m"] {
            assert!(parse_size(text).unwrap_err().contains("64KiB"), "{text}");
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1_000), "1,000 bytes");
        assert_eq!(bytes(65_536), "64.0 KiB");
        assert_eq!(bytes(1_047_552), "1023 KiB");
        assert_eq!(bytes(1_048_575), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777216 TiB");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(plural(0, "file"), "0 files");
        assert_eq!(span(Duration::from_micros(850)), "850 µs");
        assert_eq!(span(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(span(Duration::from_millis(250)), "250 ms");
        assert_eq!(
            (age(0), age(80), age(1_250)),
            ("0 ms".into(), "80 ms".into(), "1.2 s".into())
        );
        assert_eq!(span(Duration::from_millis(20_040)), "20.0 s");
        assert_eq!(span(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(span(Duration::from_secs(7_260)), "2 h 01 min");
    }
}
