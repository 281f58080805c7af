//! Message contents: uploads, references, release and collection.
