//! A PDF writer for what the samples need: numbered objects, streams, a cross-reference table.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// A document under construction; objects get the numbers 1, 2, 3 in the order they are added.
#[derive(Debug, Default)]
pub(crate) struct Pdf {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
}

impl Pdf {
    /// An empty document of version 1.4; by custom object 1 is the catalog.
    pub(crate) fn new() -> Pdf {
        // The second line tells transfer programs that the file is not text.
        Pdf {
            bytes: b"%PDF-1.4\n%\xE2\xE3\xCF\xD3\n".to_vec(),
            offsets: Vec::new(),
        }
    }

    /// Adds an object and returns its number.
    pub(crate) fn object(&mut self, body: &[u8]) -> usize {
        self.offsets.push(self.bytes.len());
        let number = self.offsets.len();
        self.bytes
            .extend_from_slice(format!("{number} 0 obj\n").as_bytes());
        self.bytes.extend_from_slice(body);
        self.bytes.extend_from_slice(b"\nendobj\n");
        number
    }

    /// Adds a stream with `entries` in its dictionary beside the length.
    pub(crate) fn stream(&mut self, entries: &str, content: &[u8]) -> usize {
        let mut body = format!("<< /Length {} {entries} >>\nstream\n", content.len()).into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\nendstream");
        self.object(&body)
    }

    /// Ends the document; object 1 is the catalog.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let start = self.bytes.len();
        let count = self.offsets.len() + 1;
        let mut tail = format!("xref\n0 {count}\n0000000000 65535 f \n");
        for offset in &self.offsets {
            // Writing to a string cannot fail.
            let _ = writeln!(tail, "{offset:010} 00000 n ");
        }
        let _ = write!(
            tail,
            "trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
        );
        self.bytes.extend_from_slice(tail.as_bytes());
        self.bytes
    }
}

/// A document with one page per item, each item the lines of that page.
pub(crate) fn paper(pages: &[&[&str]]) -> Vec<u8> {
    paper_with(pages, |pdf, content| pdf.stream("", content.as_bytes()))
}

/// The same with compressed streams.
pub(crate) fn packed_paper(pages: &[&[&str]]) -> io::Result<Vec<u8>> {
    let mut failed = None;
    let bytes = paper_with(pages, |pdf, content| match deflate(content.as_bytes()) {
        Ok(packed) => pdf.stream("/Filter /FlateDecode", &packed),
        Err(error) => {
            failed = Some(error);
            0
        }
    });
    failed.map_or(Ok(bytes), Err)
}

/// One page that shows `content` with `font` as `/F1` and `resources` beside it.
///
/// `more` adds objects; the first gets the number 5.
pub(crate) fn page(
    font: &str,
    resources: &str,
    content: &str,
    more: impl FnOnce(&mut Pdf),
) -> Vec<u8> {
    let mut pdf = Pdf::new();
    pdf.object(b"<< /Type /Catalog /Pages 2 0 R >>");
    pdf.object(b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
    let page = format!(
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /Font << /F1 {font} >> {resources} >> >>"
    );
    pdf.object(page.as_bytes());
    pdf.stream("", content.as_bytes());
    more(&mut pdf);
    pdf.finish()
}

/// The font that every reader has.
pub(crate) const HELVETICA: &str =
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";

/// Compresses in zlib's format.
pub(crate) fn deflate(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

fn paper_with(pages: &[&[&str]], mut stream: impl FnMut(&mut Pdf, &str) -> usize) -> Vec<u8> {
    let mut pdf = Pdf::new();
    pdf.object(b"<< /Type /Catalog /Pages 2 0 R >>");
    // Object 3 is the font; page and content follow in pairs.
    let kids: Vec<String> = (0..pages.len())
        .map(|index| format!("{} 0 R", 4 + 2 * index))
        .collect();
    let root = format!(
        "<< /Type /Pages /Kids [{}] /Count {} >>",
        kids.join(" "),
        pages.len()
    );
    pdf.object(root.as_bytes());
    pdf.object(HELVETICA.as_bytes());
    for (index, lines) in pages.iter().enumerate() {
        let page = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * index
        );
        pdf.object(page.as_bytes());
        stream(&mut pdf, &text(lines));
    }
    pdf.finish()
}

/// The content stream that shows `lines` one below the other.
fn text(lines: &[&str]) -> String {
    let mut content = String::from("BT\n/F1 18 Tf\n72 700 Td\n");
    for line in lines {
        let _ = writeln!(content, "({line}) Tj\n0 -28 Td");
    }
    content.push_str("ET\n");
    content
}
