//! mox-queue-delivery.
