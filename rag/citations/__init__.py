"""Whether a source supports a claim, and the exact quote that shows it. No prompts."""
