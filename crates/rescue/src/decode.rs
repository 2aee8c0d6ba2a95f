//! From the content of a file to its thumbnail or its text. The content decides, not the name.
//!
//! The decoders run with no limits of their own: the limits on memory, stack and time are those
//! of the process they run in.

use crate::fatal::plain;
use crate::name::harmless;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader};
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read as _, Seek as _};
use std::path::Path;

/// Longest side of a thumbnail.
const THUMBNAIL: u32 = 256;
/// A PDF's signature lies in so many first bytes, by the custom of its readers.
const SIGNATURE_WITHIN: u64 = 1024;
/// Longest reason in a report; some decoders print the whole object they did not expect.
const LONGEST_REASON: usize = 160;

/// What was made of a file.
#[derive(Debug)]
pub(crate) enum Product {
    /// The bytes of a PNG.
    Thumbnail(Vec<u8>),
    /// Text in UTF-8.
    Text(Vec<u8>),
}

impl Product {
    /// What it is called in a verdict.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Product::Thumbnail(_) => "thumbnail",
            Product::Text(_) => "text",
        }
    }

    /// What it is called on disk.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Product::Thumbnail(_) => "png",
            Product::Text(_) => "txt",
        }
    }

    /// What is written.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Product::Thumbnail(bytes) | Product::Text(bytes) => bytes,
        }
    }
}

/// Decodes the file at `path`.
///
/// # Errors
///
/// The reason in one line.
pub(crate) fn decode(path: &Path) -> Result<Product, String> {
    let (mut file, head) = open(path).map_err(|error| plain(&error))?;
    if head.is_empty() {
        return Err("an empty file".into());
    }
    if let Ok(format) = image::guess_format(&head) {
        file.rewind().map_err(|error| plain(&error))?;
        let name = format!("{format:?}").to_lowercase();
        return thumbnail(file, format)
            .map(Product::Thumbnail)
            .map_err(|error| brief(&format!("{name}: {error}")));
    }
    if head.windows(5).any(|window| window == b"%PDF-") {
        let bytes = fs::read(path).map_err(|error| plain(&error))?;
        return pdf_extract::extract_text_from_mem(&bytes)
            .map(|text| Product::Text(text.into_bytes()))
            .map_err(|error| brief(&format!("pdf: {error}")));
    }
    Err("not an image or a PDF".into())
}

/// A reason or a message of a decoder, short and on one line.
pub(crate) fn brief(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = harmless(&line.join(" "));
    match line.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Opens the file and reads its first bytes.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    // Once more: what was a file when DIR was walked may be a pipe now, and opening it blocks.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no longer a file"));
    }
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(SIGNATURE_WITHIN).read_to_end(&mut head)?;
    Ok((file, head))
}

fn thumbnail(file: File, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    reader.no_limits();
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    if picture.width().max(picture.height()) > THUMBNAIL {
        picture = picture.thumbnail(THUMBNAIL, THUMBNAIL);
    }
    picture.apply_orientation(orientation);
    let mut png = Cursor::new(Vec::new());
    // 8 bits a color: enough for a thumbnail, and PNG has no floating point.
    if picture.color().has_alpha() {
        picture.to_rgba8().write_to(&mut png, ImageFormat::Png)?;
    } else {
        picture.to_rgb8().write_to(&mut png, ImageFormat::Png)?;
    }
    Ok(png.into_inner())
}
