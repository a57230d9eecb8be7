//! Bars in SVG: one per contestant, on a logarithmic scale, with the spread over the rounds.

/// One bar.
pub struct Bar {
    pub label: String,
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 30.0;
const TOP: f64 = 56.0;

/// A plot with a title, a line below it, and bars from the top.
pub fn bars(title: &str, subtitle: &str, bars: &[Bar]) -> String {
    let positive = |value: f64| if value.is_finite() && value > 0.0 { value } else { 1e-3 };
    let low = bars.iter().map(|bar| positive(bar.least)).fold(f64::INFINITY, f64::min);
    let high = bars.iter().map(|bar| positive(bar.most)).fold(f64::NEG_INFINITY, f64::max);
    // Whole decades, the lowest one below the least bar so that it has a length.
    let (from, to) = ((low.log10() - 0.3).floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let span = WIDTH - LEFT - RIGHT;
    let at = |value: f64| LEFT + (positive(value).log10() - from) / (to - from) * span;
    let height = TOP + ROW * bars.len() as f64 + 34.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
         <text x=\"12\" y=\"40\" font-size=\"10\" fill=\"#666666\">{}</text>\n",
        escaped(title),
        escaped(subtitle)
    );
    let mut decade = from;
    while decade <= to {
        let x = at(10f64.powf(decade));
        let bottom = height - 26.0;
        out += &format!("<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"#dddddd\"/>\n");
        out += &format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#666666\">{}</text>\n",
            bottom + 15.0,
            number(10f64.powf(decade))
        );
        decade += 1.0;
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let (end, middle) = (at(bar.median), y + ROW / 2.0);
        let colour = if bar.label == "addon" { "#2f7d4f" } else { "#8aa4c8" };
        out += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8.0,
            middle + 4.0,
            escaped(&bar.label)
        );
        out += &format!(
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n",
            y + 5.0,
            end - LEFT,
            ROW - 10.0
        );
        out += &format!(
            "<path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#222222\" stroke-width=\"2\"/>\n",
            at(bar.least),
            at(bar.most)
        );
        out += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            at(bar.most).max(end) + 6.0,
            middle + 4.0,
            number(bar.median)
        );
    }
    out + "</svg>\n"
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let (head, tail) = digits.split_at(digits.len() - 3);
            format!("{head},{tail}")
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        value => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
