//! Audio codecs that can be added to what a client offers.
//!
//! Manual, chapters 9.1.3 and 9.1.4 ("Audio transcoding").

use crate::prelude::*;

/// A codec that media relays can convert to and from.
#[derive(Clone, Debug, Entity)]
#[entity(path = "codecs", access = ACCESS)]
pub struct Codec {
    /// Number of the codec.
    #[field(brand = "ld")]
    pub id: Id<Codec>,
    /// Whether it carries sound or pictures.
    #[field(name = "type", default = CodecKind::Audio, brand = "d")]
    pub kind: CodecKind,
    /// Its name in SDP.
    #[field(max = 25, brand = "ld")]
    pub iden: String,
    /// Its name for people.
    #[field(max = 100, brand = "d")]
    pub name: String,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lg").acl().order(&["type"]).write(&[Rule::Never])];

choice! {
    /// What a codec carries.
    pub enum CodecKind {
        /// Sound.
        Audio = "audio",
        /// Pictures.
        Video = "video",
    }
}
