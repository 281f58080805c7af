//! A message with parts of it left out, without a copy of what remains.

use bytes::Bytes;

use crate::Message;

/// Bytes of a piece in which an excerpt is passed on.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces after which what was passed on leaves the memory.
const PIECES_HELD: usize = 8;

/// What remains of a message, as slices of it in order. Clones share the message.
#[derive(Clone, Debug)]
pub struct Excerpt {
    message: Message,
    slices: Vec<Bytes>,
}

impl Excerpt {
    /// The slices, which are of the message's [`bytes`](Message::bytes).
    #[must_use]
    pub fn new(message: Message, slices: Vec<Bytes>) -> Self {
        Self { message, slices }
    }

    /// Bytes of all that remains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Whether nothing remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What remains.
    #[must_use]
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// The message that it is of.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// All in one, which is a copy if parts were left out: for small ones.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.slices[..] {
            [whole] => whole.clone(),
            slices => slices.concat().into(),
        }
    }

    /// All in pieces of at most 256 KiB, to be passed on. What was passed on of a large message leaves the memory.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let Self { message, slices } = self;
        let pieces = slices.into_iter().flat_map(|slice| {
            let starts = (0..slice.len()).step_by(PIECE_BYTES);
            starts.map(move |start| slice.slice(start..(start + PIECE_BYTES).min(slice.len())))
        });
        pieces.enumerate().map(move |(number, piece)| {
            if number % PIECES_HELD == 0 {
                message.release_memory();
            }
            piece
        })
    }
}

/// All of it.
impl From<Message> for Excerpt {
    fn from(message: Message) -> Self {
        let slices = vec![message.bytes()];
        Self { message, slices }
    }
}
