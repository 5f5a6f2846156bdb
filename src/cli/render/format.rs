//! Numbers, money, spans and sizes as people read them.

/// `41,208`.
pub(crate) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2,410`, then `398k`, `1.31M`: three digits and a letter from 10,000 on.
pub(crate) fn short(number: i64) -> String {
    const UNITS: [(i64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let size = number.saturating_abs();
    if size < 10_000 {
        return count(number);
    }
    // Half a last digit below the unit already rounds up to it.
    let unit = UNITS.iter().find(|(unit, _)| size >= unit - unit / 2_000);
    let (unit, letter) = unit.copied().unwrap_or((1_000, "k"));
    let scaled = number as f64 / unit as f64;
    let digits = match scaled.abs() {
        scaled if scaled < 9.995 => 2,
        scaled if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{letter}")
}

/// `74 %` of a share from 0 to 1, rounded down so that 100 % means all.
pub(crate) fn percent(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return "0 %".to_owned();
    }
    format!("{} %", i128::from(part) * 100 / i128::from(whole))
}

/// `99.3 %`, rounded down; without the tenth where it is nothing.
pub(crate) fn percent_fine(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return "0 %".to_owned();
    }
    let tenths = i128::from(part) * 1_000 / i128::from(whole);
    if tenths % 10 == 0 {
        format!("{} %", tenths / 10)
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// Money: `$184.20`, `$0.42`, `$0.00155`; three digits that matter below a dollar.
pub(crate) fn usd(nanousd: i64) -> String {
    let sign = if nanousd < 0 { "-" } else { "" };
    let amount = nanousd.unsigned_abs();
    if amount == 0 {
        return "$0.00".to_owned();
    }
    if amount >= 995_000_000 {
        let cents = amount.saturating_add(5_000_000) / 10_000_000;
        let dollars = count(i64::try_from(cents / 100).unwrap_or(i64::MAX));
        return format!("{sign}${dollars}.{:02}", cents % 100);
    }
    let zeros = 9_u32.saturating_sub(amount.ilog10() + 1);
    let digits = usize::try_from(zeros + 3).unwrap_or(9).min(9);
    let text = format!("{:.digits$}", amount as f64 / 1e9);
    // Whole cents stay whole cents.
    let text = text.strip_suffix('0').filter(|_| digits == 3).unwrap_or(&text);
    format!("{sign}${text}")
}

/// Money that is a guess: `$248`, `$2.48`, `$0.031`.
pub(crate) fn usd_about(nanousd: i64) -> String {
    if nanousd >= 100_000_000_000 {
        return format!("${}", count(nanousd.saturating_add(500_000_000) / 1_000_000_000));
    }
    usd(nanousd)
}

/// `2 h 05 m`, `14 s`, `3 d 4 h`.
pub(crate) fn span(millis: i64) -> String {
    let secs = (millis.max(0) + 500) / 1_000;
    match secs {
        0..60 => format!("{secs} s"),
        60..600 => format!("{} m {:02} s", secs / 60, secs % 60),
        600..3_600 => format!("{} m", secs / 60),
        3_600..86_400 => format!("{} h {:02} m", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// The same, tight: `6h 12m`.
pub(crate) fn span_tight(millis: i64) -> String {
    let secs = millis.max(0) / 1_000;
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => format!("{}h {:02}m", secs / 3_600, secs / 60 % 60),
        _ => format!("{}d {}h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// The time a call took: `0.8 s`, `14.2 s`, `3 m 20 s`.
pub(crate) fn took(millis: i64) -> String {
    let millis = millis.max(0);
    if millis < 60_000 {
        let tenths = (millis + 50) / 100;
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    span(millis)
}

/// `1.9 GB`, in powers of ten as `ls -h --si` and disk makers count.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let Some((unit, name)) = UNITS.iter().find(|(unit, _)| size >= *unit) else {
        return format!("{size} B");
    };
    let tenths = size / (unit / 10);
    if tenths >= 100 {
        return format!("{} {name}", tenths / 10);
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// `1 job`, `2 jobs`.
pub(crate) fn jobs(number: i64) -> String {
    let noun = if number == 1 { "job" } else { "jobs" };
    format!("{} {noun}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (-41_208, "-41,208")];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn large_numbers_keep_three_digits() {
        for (number, text) in [
            (2_410, "2,410"),
            (9_999, "9,999"),
            (10_000, "10.0k"),
            (398_200, "398k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (1_310_000, "1.31M"),
            (2_000_000, "2.00M"),
            (-20_000, "-20.0k"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }

    #[test]
    fn shares_never_round_up_to_all() {
        assert_eq!(percent(999, 1_000), "99 %");
        assert_eq!(percent(1_000, 1_000), "100 %");
        assert_eq!(percent(1, 0), "0 %");
        assert_eq!(percent_fine(993, 1_000), "99.3 %");
        assert_eq!(percent_fine(9_999, 10_000), "99.9 %");
        assert_eq!(percent_fine(5, 5), "100 %");
    }

    #[test]
    fn money_shows_the_digits_that_matter() {
        for (nanousd, text) in [
            (0, "$0.00"),
            (184_200_000_000, "$184.20"),
            (1_234_567_890_000, "$1,234.57"),
            (999_000_000, "$1.00"),
            (420_000_000, "$0.42"),
            (400_000_000, "$0.40"),
            (1_550_000, "$0.00155"),
            (12_000_000, "$0.0120"),
            (15, "$0.000000015"),
            (-420_000_000, "-$0.42"),
        ] {
            assert_eq!(usd(nanousd), text);
        }
        assert_eq!(usd_about(248_400_000_000), "$248");
        assert_eq!(usd_about(2_480_000_000), "$2.48");
    }

    #[test]
    fn spans_have_two_units_at_the_most() {
        for (millis, text) in [
            (400, "0 s"),
            (14_000, "14 s"),
            (61_000, "1 m 01 s"),
            (1_800_000, "30 m"),
            (7_500_000, "2 h 05 m"),
            (100 * 3_600_000, "4 d 4 h"),
        ] {
            assert_eq!(span(millis), text);
        }
        assert_eq!(span_tight(22_320_000), "6h 12m");
        assert_eq!(took(840), "0.8 s");
        assert_eq!(took(200_000), "3 m 20 s");
    }

    #[test]
    fn sizes_are_short() {
        for (size, text) in
            [(0, "0 B"), (4_096, "4.0 kB"), (1_900_000_000, "1.9 GB"), (64_200_000, "64 MB")]
        {
            assert_eq!(bytes(size), text);
        }
    }
}
