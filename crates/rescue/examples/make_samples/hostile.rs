//! Files that hurt a decoder, each made by a few lines that say how.

use crate::Done;
use crate::pdf::{self, HELVETICA, Pdf};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Writes all of them into `folder`, some from the files in `good`.
pub(crate) fn write_all(good: &Path, folder: &Path) -> Done {
    let save = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes);
    for name in [
        "spheres.png",
        "sunset.jpg",
        "rolling.gif",
        "mandelbrot.webp",
        "julia.tiff",
    ] {
        let bytes = fs::read(good.join(name))?;
        save(&format!("truncated-{name}"), &bytes[..bytes.len() / 8])?;
    }
    let paper = fs::read(good.join("papers/three-pages.pdf"))?;
    save("truncated.pdf", &paper[..paper.len() / 2])?;
    for name in ["spheres.png", "target.ico", "mandelbrot.webp", "flag.qoi"] {
        save(
            &format!("flipped-{name}"),
            &flipped(fs::read(good.join(name))?),
        )?;
    }
    save(
        "flipped-packed.pdf",
        &flipped(fs::read(good.join("papers/packed.pdf"))?),
    )?;

    save("empty.png", b"")?;
    save("text.png", b"Only the name says that this is a picture.\n")?;
    save(
        "paper.jpg",
        &pdf::paper(&[&["Only the name says that this is no paper."]]),
    )?;
    save("bomb.png", &bomb(30_000, 30_000)?)?;
    save("wide-rows.pdf", &wide_rows()?)?;
    save("claims.bmp", &claims(60_000, 60_000))?;
    save("nested-arrays.pdf", &nested_arrays(10_000))?;
    save("draws-itself.pdf", &draws_itself())?;
    save("endless.pdf", &endless(12, 12))?;
    save("unknown-encoding.pdf", &unknown_encoding())?;
    Ok(())
}

/// One bit in the middle turned over.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes
}

/// A complete PNG of one bit per pixel, all black: a hundred kilobytes, and `width * height`
/// bytes once decoded to one byte per pixel.
fn bomb(width: u32, height: u32) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let row = vec![0; 1 + width as usize / 8];
    for _ in 0..height {
        encoder.write_all(&row)?;
    }
    let mut header = Vec::new();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    // Bit depth 1, gray, and the only compression, filter and (none) interlace methods.
    header.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, b"IHDR", &header);
    chunk(&mut png, b"IDAT", &encoder.finish()?);
    chunk(&mut png, b"IEND", &[]);
    Ok(png)
}

fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(content);
    // A chunk of the samples is far below 4 GiB.
    png.extend_from_slice(&(content.len() as u32).to_be_bytes());
    png.extend_from_slice(kind);
    png.extend_from_slice(content);
    png.extend_from_slice(&sum.sum().to_be_bytes());
}

/// The 54 bytes before the first pixel of a BMP, and no pixel.
fn claims(width: i32, height: i32) -> Vec<u8> {
    let mut bmp = b"BM".to_vec();
    for word in [0x36_u32, 0, 0x36, 0x28] {
        bmp.extend_from_slice(&word.to_le_bytes());
    }
    bmp.extend_from_slice(&width.to_le_bytes());
    bmp.extend_from_slice(&height.to_le_bytes());
    // One plane of 24 bits, not compressed; what is not said is zero.
    bmp.extend_from_slice(&[1, 0, 24, 0]);
    bmp.resize(54, 0);
    bmp
}

/// A page whose content is packed in rows of ten thousand million pixels, so it says.
fn wide_rows() -> io::Result<Vec<u8>> {
    let packed = pdf::deflate(b"nothing as wide as that")?;
    let mut document = Pdf::new();
    document.object(b"<< /Type /Catalog /Pages 2 0 R >>");
    document.object(b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
    document.object(
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << >> >>",
    );
    let entries = "/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 10000000000 >>";
    document.stream(entries, &packed);
    Ok(document.finish())
}

/// A page with a font whose character map is `map`.
fn with_character_map(map: &str) -> Vec<u8> {
    let font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica \
                /Encoding /WinAnsiEncoding /ToUnicode 5 0 R >>";
    pdf::page(
        font,
        "",
        "BT /F1 18 Tf 72 700 Td (Hello) Tj ET",
        |document| {
            document.stream("", map.as_bytes());
        },
    )
}

/// Arrays in arrays in a character map: its parser calls itself for each.
fn nested_arrays(depth: usize) -> Vec<u8> {
    with_character_map(&format!("{}{}\n", "[".repeat(depth), "]".repeat(depth)))
}

/// A form that draws itself.
fn draws_itself() -> Vec<u8> {
    let resources = "/XObject << /X 5 0 R >>";
    pdf::page(HELVETICA, resources, "/X Do", |document| {
        let entries = "/Type /XObject /Subtype /Form /BBox [0 0 9 9] \
                       /Resources << /XObject << /X 5 0 R >> >>";
        document.stream(entries, b"/X Do");
    })
}

/// Forms that draw the next one `fan` times: `fan` to the power of `depth` drawings of nothing,
/// in the memory of `depth`.
fn endless(fan: usize, depth: usize) -> Vec<u8> {
    let resources = "/XObject << /X 5 0 R >>";
    pdf::page(HELVETICA, resources, "/X Do", |document| {
        for level in 0..depth {
            let entries = format!(
                "/Type /XObject /Subtype /Form /BBox [0 0 9 9] \
                 /Resources << /XObject << /X {} 0 R >> >>",
                6 + level
            );
            document.stream(&entries, "/X Do\n".repeat(fan).as_bytes());
        }
        document.stream("/Type /XObject /Subtype /Form /BBox [0 0 9 9]", b"n");
    })
}

/// A font in an encoding that nobody has heard of.
fn unknown_encoding() -> Vec<u8> {
    let font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /MartianEncoding >>";
    pdf::page(font, "", "BT /F1 18 Tf 72 700 Td (Hello) Tj ET", |_| {})
}
