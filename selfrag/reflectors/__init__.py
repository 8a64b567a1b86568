"""How a model reflects: by its own reflection tokens (`tokens`), or by being asked (`prompted`)."""
