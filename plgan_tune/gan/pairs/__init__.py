"""The pairs of networks. Each says which images it takes and how it computes; `build` alone chooses one by its name."""
