// Package testenv starts the real parts that tests run against (Redis, an S3 service) and
// stops them again. Each part runs as a process of its own on the loopback network, on a
// free port, with its data in a temporary folder. A part whose program is not found fails
// the test; only TWOFOLD_TEST_SKIP, a list of parts separated by commas, lets its tests be
// skipped.
package testenv
