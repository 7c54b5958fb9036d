//! The pictures: how the gaps of moves and of restarts are distributed, how the ping interval grows
//! behind each translation, and how a storm comes back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use plotters::{
    chart::{ChartBuilder, ChartContext, SeriesLabelPosition},
    coord::{Shift, types::RangedCoordf64},
    drawing::{DrawingArea, IntoDrawingArea},
    element::PathElement,
    prelude::{Cartesian2d, SVGBackend},
    series::LineSeries,
    style::{BLACK, Color, Palette, Palette99, WHITE},
};

use crate::{figure::percentile, nat::Course, storm::Storm};

type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// For how long the learning is shown.
const SHOWN: Duration = Duration::from_secs(2 * 3600);

/// What the axes measure.
struct Axes {
    title: &'static str,
    x: (&'static str, f64),
    y: (&'static str, f64),
}

/// Draws them, in a folder that is made if need be; which files.
pub(crate) fn draw(folder: &Path, pictures: &[Picture]) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut drawn = Vec::new();
    for picture in pictures {
        let path = folder.join(picture.file());
        let sheet = SVGBackend::new(&path, (900, 520)).into_drawing_area();
        picture
            .draw(&sheet)
            .map_err(|e| io::Error::other(e.to_string()))?;
        drop(sheet);
        drawn.push(path);
    }
    Ok(drawn)
}

/// What is drawn.
pub(crate) enum Picture {
    /// The gaps of moves, in milliseconds.
    Moves(Vec<f64>),
    /// The intervals that were learned.
    Intervals(Vec<Course>),
    /// The gaps of a rolling restart, in milliseconds.
    Restarts(Vec<f64>),
    /// How many of a storm were back, and how many handshakes the relay had begun: each with the seconds
    /// since it began.
    Storm(Storm),
}

impl Picture {
    fn file(&self) -> &'static str {
        match self {
            Self::Moves(_) => "migration-gap.svg",
            Self::Intervals(_) => "ping-interval.svg",
            Self::Restarts(_) => "rolling-gap.svg",
            Self::Storm(_) => "storm.svg",
        }
    }

    fn draw(&self, sheet: &Sheet<'_>) -> Drawn {
        match self {
            Self::Moves(gaps) => {
                let title = "From a change of network to the next message, round trip 100 ms";
                draw_gaps(sheet, title, "of all changes, both directions", gaps)
            }
            Self::Intervals(courses) => draw_intervals(sheet, courses),
            Self::Restarts(gaps) => {
                let title = "The slowest message to each device while two relays are restarted";
                draw_gaps(sheet, title, "of all that are written to", gaps)
            }
            Self::Storm(storm) => draw_storm(sheet, storm),
        }
    }
}

fn draw_storm(sheet: &Sheet<'_>, storm: &Storm) -> Drawn {
    let curves = [("back", &storm.back), ("handshakes begun", &storm.begun)];
    let ends = curves.iter().filter_map(|(_, curve)| curve.last());
    let (longest, most) = ends.fold((1.0_f64, 1.0_f64), |(x, y), last| {
        (x.max(last.0), y.max(last.1))
    });
    let mut chart = axes(
        sheet,
        &Axes {
            title: "Devices that come back all at once",
            x: ("seconds", longest),
            y: ("devices", most),
        },
    )?;
    for (index, (label, curve)) in curves.into_iter().enumerate() {
        line(&mut chart, index, label, curve.iter().copied())?;
    }
    finish(sheet, &mut chart)
}

fn draw_gaps(sheet: &Sheet<'_>, title: &'static str, label: &str, gaps: &[f64]) -> Drawn {
    let longest = percentile(gaps, 1.0).max(500.0);
    let mut chart = axes(
        sheet,
        &Axes {
            title,
            x: ("gap in ms", longest),
            y: ("share", 1.0),
        },
    )?;
    let steps = (0..=1000).map(|step| f64::from(step) / 1000.0);
    let points = steps.map(|share| (percentile(gaps, share), share));
    line(&mut chart, 0, label, points)?;
    finish(sheet, &mut chart)
}

fn draw_intervals(sheet: &Sheet<'_>, courses: &[Course]) -> Drawn {
    let mut chart = axes(
        sheet,
        &Axes {
            title: "The silence between two pings in the background, as it is learned",
            x: (
                "minutes since the app went there",
                SHOWN.as_secs_f64() / 60.0,
            ),
            y: ("seconds", 540.0),
        },
    )?;
    for (index, course) in courses.iter().enumerate() {
        let port = if course.keeps_port { "same" } else { "new" };
        let seconds = course.timeout.as_secs();
        let label = format!("forgotten after {seconds} s, {port} port");
        line(&mut chart, index, &label, steps(course))?;
    }
    finish(sheet, &mut chart)
}

/// Each silence as a level line.
fn steps(course: &Course) -> impl Iterator<Item = (f64, f64)> {
    let shown = course.silences.iter();
    let shown = shown.take_while(|silence| silence.since.since_origin() < SHOWN);
    shown.flat_map(|silence| {
        let begin = silence.since.since_origin().as_secs_f64() / 60.0;
        let height = silence.tried.as_secs_f64();
        let end = (begin + height / 60.0).min(SHOWN.as_secs_f64() / 60.0);
        [(begin, height), (end, height)]
    })
}

fn axes<'a, 'b>(
    sheet: &'a Sheet<'b>,
    axes: &Axes,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    sheet.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(sheet)
        .caption(axes.title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..axes.x.1, 0.0..axes.y.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.x.0).y_desc(axes.y.0).draw()?;
    Ok(chart)
}

fn line(
    chart: &mut Chart<'_, '_>,
    index: usize,
    label: &str,
    points: impl Iterator<Item = (f64, f64)>,
) -> Drawn {
    let color = Palette99::pick(index).to_rgba();
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(2)))?
        .label(label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    Ok(())
}

fn finish<'a, 'b: 'a>(sheet: &Sheet<'b>, chart: &mut Chart<'a, 'b>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    sheet.present()?;
    Ok(())
}
