"""Attribution graphs over transcoder features."""
