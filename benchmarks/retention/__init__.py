"""What an artifact keeps of the full model's accuracy and heat maps, and what one frame takes."""
