//! Lines in a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// What is drawn, and the words around it.
pub struct Picture<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// Whether each step along x is ten times the last.
    pub by_tens: bool,
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 9] = [
    RGBColor(0x33, 0x33, 0x33),
    RGBColor(0xb0, 0xb0, 0xb0),
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x17, 0xbe, 0xcf),
];

impl Picture<'_> {
    pub fn draw(&self, file: &Path) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN_POSITIVE, f64::max);
        let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let (right, top) = (most(|point| point.0), most(|point| point.1) * 1.05);
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        if self.by_tens {
            // Some room for the names.
            let left = least.max(1e-3);
            self.fill(&area, (left..right.max(left) * 8.0).log_scale(), top)
        } else {
            self.fill(&area, least.min(0.0)..right, top)
        }
        .map_err(|error| anyhow!("{}: {error}", file.display()))?;
        area.present().map_err(|error| anyhow!("{error}"))
    }

    fn fill<'d, X>(
        &self,
        area: &DrawingArea<SVGBackend<'d>, plotters::coord::Shift>,
        x: X,
        top: f64,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'d> as DrawingBackend>::ErrorType>>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(x, 0.0..top)?;
        chart.configure_mesh().x_desc(self.x).y_desc(self.y).light_line_style(WHITE).draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = ShapeStyle::from(colour).stroke_width(2);
            let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            drawn.label(name.clone()).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(0xdd, 0xdd, 0xdd))
            .draw()?;
        Ok(())
    }
}
