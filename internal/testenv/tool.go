package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// skipVariable lists, separated by commas, the parts whose tests may be skipped when
// they cannot be started, e.g. "s3,redis".
const skipVariable = "TWOFOLD_TEST_SKIP"

// tool gives the path of the program name. It looks at the environment variable env, then
// in the folder .tools at the root of the repository, then at PATH. A program that is not
// found fails the test with howToGet, so that a missing part never looks like a passed test.
func tool(t testing.TB, name, env, howToGet string) string {
	t.Helper()
	if named := os.Getenv(env); named != "" {
		if err := executable(named); err != nil {
			t.Fatalf("%s names %s, which cannot be run: %v", env, named, err)
		}
		return named
	}
	kept := filepath.Join(repositoryRoot(), ".tools", name)
	if executable(kept) == nil {
		return kept
	}
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	t.Fatalf("the tests need %s: it is not at %s, nor on PATH, and %s is not set: %s",
		name, kept, env, howToGet)
	return ""
}

// skipUnwanted skips the test when TWOFOLD_TEST_SKIP names part. Call it before tool.
func skipUnwanted(t testing.TB, part string) {
	t.Helper()
	listed := strings.Split(os.Getenv(skipVariable), ",")
	if slices.ContainsFunc(listed, func(s string) bool { return strings.TrimSpace(s) == part }) {
		t.Skipf("%s names %s", skipVariable, part)
	}
}

// executable says why the file cannot be run, or gives nil.
func executable(path string) error {
	_, err := exec.LookPath(path)
	return err
}

// repositoryRoot gives the folder of go.mod, found from where this file was compiled.
func repositoryRoot() string {
	_, file, _, ok := runtime.Caller(0)
	if ok {
		for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
			if info, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil && info.Mode().IsRegular() {
				return dir
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "."
}
