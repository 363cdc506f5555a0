"""What stands between a user's records and a network: columns of a table, the arrangement of an image, the scale."""
