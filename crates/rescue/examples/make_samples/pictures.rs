//! Pictures worth a look, computed with `+ - * /` only, in each format that `rescue` reads.

use crate::Done;
use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage};
use std::fs::{self, File};
use std::path::Path;

/// A color with parts from 0 to 1.
type Color = [f64; 3];
/// A picture: the color at a place; both coordinates go from 0 to 1, y downwards.
type Scene = fn(f64, f64) -> Color;

/// Writes one picture per format into `folder`.
pub(crate) fn write_all(folder: &Path) -> Done {
    let save = |name: &str, picture: RgbImage, format: ImageFormat| {
        picture.save_with_format(folder.join(name), format)
    };
    save("spheres.png", draw(spheres, 480, 320), ImageFormat::Png)?;
    save(
        "mandelbrot.webp",
        draw(mandelbrot, 480, 320),
        ImageFormat::WebP,
    )?;
    save("dunes.bmp", draw(dunes, 240, 160), ImageFormat::Bmp)?;
    save("julia.tiff", draw(julia, 240, 160), ImageFormat::Tiff)?;
    save("flag.qoi", draw(flag, 480, 320), ImageFormat::Qoi)?;
    save("moon.ppm", draw(moon, 200, 140), ImageFormat::Pnm)?;
    let icon = DynamicImage::ImageRgb8(draw(target, 64, 64)).to_rgba8();
    icon.save_with_format(folder.join("target.ico"), ImageFormat::Ico)?;

    let mut jpeg = Vec::new();
    let photograph = draw(sunset, 640, 400);
    JpegEncoder::new_with_quality(&mut jpeg, 85).encode_image(&photograph)?;
    fs::write(folder.join("sunset.jpg"), jpeg)?;
    write_animation(&folder.join("rolling.gif"))?;
    // Content decides, not the name: no extension at all.
    fs::copy(folder.join("spheres.png"), folder.join("no-extension"))?;
    Ok(())
}

/// Six frames of a ball that rolls.
fn write_animation(path: &Path) -> Done {
    let mut encoder = GifEncoder::new_with_speed(File::create(path)?, 10);
    encoder.set_repeat(Repeat::Infinite)?;
    for step in 0..6_u32 {
        let picture = RgbImage::from_fn(160, 120, |x, y| {
            let (dx, dy) = (
                f64::from(x) - 20.0 - f64::from(step) * 24.0,
                f64::from(y) - 80.0,
            );
            let ball = dx * dx + dy * dy < 400.0;
            let stripe = (x / 8 + step) % 2 == 0;
            Rgb(match (ball, y > 100, stripe) {
                (true, _, _) => [230, 90, 40],
                (_, true, true) => [60, 90, 60],
                (_, true, false) => [80, 120, 80],
                _ => [200, 220, 240],
            })
        });
        let frame = DynamicImage::ImageRgb8(picture).to_rgba8();
        let delay = Delay::from_numer_denom_ms(80, 1);
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, delay))?;
    }
    Ok(())
}

/// A scene as a picture of `width` times `height`.
fn draw(scene: Scene, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let color = scene(
            (f64::from(x) + 0.5) / f64::from(width),
            (f64::from(y) + 0.5) / f64::from(height),
        );
        // The cast saturates, so colors out of range are clipped.
        Rgb(color.map(|part| (part * 255.0) as u8))
    })
}

/// Steps until z = z * z + c leaves the circle of radius 2, smooth enough for a picture.
fn escape(mut re: f64, mut im: f64, c: (f64, f64)) -> f64 {
    for step in 0..96_u32 {
        let (re2, im2) = (re * re, im * im);
        if re2 + im2 > 16.0 {
            return (f64::from(step) + 16.0 / (re2 + im2)) / 96.0;
        }
        (re, im) = (re2 - im2 + c.0, 2.0 * re * im + c.1);
    }
    0.0
}

fn mandelbrot(x: f64, y: f64) -> Color {
    let depth = escape(0.0, 0.0, (x * 3.2 - 2.3, y * 2.4 - 1.2));
    [depth * 3.0, depth * depth * 4.0, 0.25 + depth]
}

fn julia(x: f64, y: f64) -> Color {
    let depth = escape(x * 3.0 - 1.5, y * 2.0 - 1.0, (-0.8, 0.156));
    [depth * depth * 2.0, depth, depth * 2.5]
}

/// Three balls on a chequered floor, lit from the left.
fn spheres(x: f64, y: f64) -> Color {
    let balls: [(f64, f64, f64, Color); 3] = [
        (0.28, 0.55, 0.20, [0.9, 0.25, 0.2]),
        (0.55, 0.45, 0.26, [0.2, 0.6, 0.9]),
        (0.80, 0.62, 0.16, [0.95, 0.8, 0.2]),
    ];
    for (center_x, center_y, radius, color) in balls {
        let (dx, dy) = ((x - center_x) * 1.5 / radius, (y - center_y) / radius);
        let inside = 1.0 - dx * dx - dy * dy;
        if inside > 0.0 {
            let light = (inside * 0.9 - dx * 0.3 - dy * 0.4).max(0.08);
            let shine = light * light * light * light * 0.5;
            return color.map(|part| part * light + shine);
        }
    }
    if y < 0.6 {
        return [0.5 + y * 0.4, 0.65 + y * 0.3, 0.9];
    }
    let depth = 0.25 / (y - 0.55);
    let even = (((x - 0.5) * depth * 8.0 + 100.0) as i64 + (depth * 6.0) as i64) % 2 == 0;
    if even {
        [0.85, 0.85, 0.8]
    } else {
        [0.25, 0.3, 0.3]
    }
}

/// The sun over the sea.
fn sunset(x: f64, y: f64) -> Color {
    let (dx, dy) = ((x - 0.5) * 1.6, y - 0.52);
    let distance = dx * dx + dy * dy;
    let glow = 0.02 / (distance + 0.02);
    if y < 0.6 {
        if distance < 0.012 {
            return [1.0, 0.93, 0.6];
        }
        return [
            0.35 + y + glow,
            0.15 + y * 0.5 + glow * 0.6,
            0.45 - y * 0.3 + glow * 0.1,
        ];
    }
    let wave = triangle(y * y * 60.0 + triangle(x * 9.0) * 0.5);
    let path = 0.004 / ((x - 0.5) * (x - 0.5) + 0.01);
    [
        0.15 + path * wave * 2.0,
        0.12 + path * wave * 1.2,
        0.3 + wave * 0.1,
    ]
}

fn dunes(x: f64, y: f64) -> Color {
    let ridges = [0.35, 0.5, 0.65, 0.8];
    let mut color = [0.55 + y * 0.5, 0.7 + y * 0.2, 0.9];
    for (index, base) in ridges.into_iter().enumerate() {
        let number = index as f64;
        let height = base + 0.08 * triangle(x * (1.0 + number * 0.4) + number * 0.37) - 0.04;
        if y > height {
            let shade = (0.95 - number * 0.16) * (1.0 - (y - height) * 0.6);
            color = [shade, shade * 0.75, shade * 0.45];
        }
    }
    color
}

fn flag(x: f64, y: f64) -> Color {
    let wave = triangle(x * 2.0) * 0.08;
    let light = 0.75 + 0.25 * triangle(x * 2.0 + 0.25);
    let stripe = ((y + wave) * 7.0) as i64;
    let color = if stripe % 2 == 0 {
        [0.1, 0.35, 0.75]
    } else {
        [0.95, 0.95, 0.9]
    };
    color.map(|part: f64| part * light)
}

fn moon(x: f64, y: f64) -> Color {
    let (dx, dy) = ((x - 0.5) * 2.86, (y - 0.5) * 2.0);
    let (sx, sy) = (dx - 0.35, dy + 0.12);
    let (inside, shadow) = (dx * dx + dy * dy < 0.6, sx * sx + sy * sy < 0.5);
    if inside && !shadow {
        [0.95, 0.93, 0.8]
    } else {
        [0.05, 0.06, 0.16 + y * 0.1]
    }
}

fn target(x: f64, y: f64) -> Color {
    let (dx, dy) = (x - 0.5, y - 0.5);
    let ring = ((dx * dx + dy * dy) * 40.0) as i64;
    if ring % 2 == 0 {
        [0.85, 0.1, 0.1]
    } else {
        [1.0, 1.0, 1.0]
    }
}

/// A wave of straight lines: 0 at whole numbers, 1 in the middle between them.
fn triangle(at: f64) -> f64 {
    let part = at - at.floor();
    1.0 - (2.0 * part - 1.0).abs()
}
