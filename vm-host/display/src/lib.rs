//! Damage, tiles and encoders: frames in, RFB rectangles out.
