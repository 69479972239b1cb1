"""What made the bundled model: scenes, captions, and the trainings that stand on them."""
