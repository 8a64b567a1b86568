"""Two ways to critique: the model's own reflection tokens (`tokens`), or questions to any model (`prompted`)."""
