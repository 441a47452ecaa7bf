"""Finding rho for one model, sampler and number of steps without an exhaustive grid."""
