package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// DefaultFile is the configuration file that is read where none is named and it is there.
const DefaultFile = "twofold.yaml"

// fileFlag and fileEnv name the configuration file.
const (
	fileFlag = "config"
	fileEnv  = EnvPrefix + "CONFIG"
)

// AddFlags adds to fs a flag for the configuration file and one for each setting whose key is in keys or below one of them ("s3");
// for every setting where no key is given.
func AddFlags(fs *pflag.FlagSet, keys ...string) {
	defaults := Defaults()
	fs.String(fileFlag, "", "YAML configuration `file` (env "+fileEnv+"; default ./"+DefaultFile+" if it is there)")
	for _, f := range Fields() {
		if !wanted(f.Key, keys) {
			continue
		}
		text, _, _ := strings.Cut(f.Doc, " Defaults to ")
		text = strings.ReplaceAll(text, "`", `"`) // pflag takes a word in backquotes for the name of the value
		fs.Var(&flagValue{text: f.Text(defaults), kind: kindOf(f.value(&defaults))}, f.Flag, text)
	}
}

func wanted(key string, keys []string) bool {
	for _, k := range keys {
		if key == k || strings.HasPrefix(key, k+".") {
			return true
		}
	}
	return len(keys) == 0
}

// flagValue keeps a flag's text until Load reads it together with the other sources.
type flagValue struct{ text, kind string }

func (v *flagValue) String() string     { return v.text }
func (v *flagValue) Set(s string) error { v.text = s; return nil }
func (v *flagValue) Type() string       { return v.kind }

// Input is where Load looks.
type Input struct {
	// Flags is a parsed flag set with AddFlags' flags. Nil: no flags.
	Flags *pflag.FlagSet
	// Environ is the environment as "NAME=value" lines; a variable set to the empty text counts as not set. Defaults to os.Environ().
	Environ []string
	// File is the configuration file where neither a flag nor the environment names one. Defaults to DefaultFile if it is there.
	File string
}

// Loaded is a configuration and where each of its values came from.
type Loaded struct {
	Config
	// File is the configuration file that was read; empty where none was.
	File string
	// Warnings are sentences for the operator, about values that were overruled.
	Warnings []string

	sources map[string]Source
	env     map[string]string
}

// Source says where a value came from: "flag --grpc-address", "env OFFLINE_STORE_PATH", "file twofold.yaml:3" or "default".
type Source string

// FromDefault is the source of a value that nobody set.
const FromDefault Source = "default"

// Source returns where the value of a key came from.
func (l *Loaded) Source(key string) Source {
	if s, ok := l.sources[key]; ok {
		return s
	}
	return FromDefault
}

// Load reads the configuration: flags over environment over file over Defaults. It reports every violation it finds, each with the
// setting's name, where its value came from and how to mend it; their kind is fault.Invalid.
func Load(in Input) (*Loaded, error) {
	if in.Environ == nil {
		in.Environ = os.Environ()
	}
	l := &Loaded{Config: Defaults(), sources: map[string]Source{}, env: environment(in.Environ)}
	l.warnMisspelt()
	file, err := l.readFile(in)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, f := range Fields() {
		text, src, ok := l.pick(f, in, file)
		if !ok {
			continue
		}
		l.sources[f.Key] = src
		if err := set(f.value(&l.Config), text); err != nil {
			errs = append(errs, l.invalid(f.Key, err))
		}
	}
	if len(errs) == 0 {
		errs = l.check()
	}
	if len(errs) > 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Err: errors.Join(errs...)}
	}
	return l, nil
}

// pick returns the text of a field from the first source that has it.
func (l *Loaded) pick(f Field, in Input, file map[string]fileValue) (string, Source, bool) {
	if in.Flags != nil {
		if flag := in.Flags.Lookup(f.Flag); flag != nil && flag.Changed {
			return flag.Value.String(), Source("flag --" + f.Flag), true
		}
	}
	names := append([]string{f.Env}, f.Aliases...)
	for i, name := range names {
		text, ok := l.env[name]
		if !ok {
			continue
		}
		l.warnOverruled(f, name, text, names[i+1:])
		return text, Source("env " + name), true
	}
	if v, ok := file[f.Key]; ok {
		return v.text, Source(fmt.Sprintf("file %s:%d", l.File, v.line)), true
	}
	return "", FromDefault, false
}

// warnOverruled warns where Twofold's own variable overrules a well-known one that says something else. Well-known
// variables overrule each other silently, as in the programs that they are known from.
func (l *Loaded) warnOverruled(f Field, name, text string, others []string) {
	if name != f.Env {
		return
	}
	for _, other := range others {
		if t, ok := l.env[other]; ok && t != text {
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s overrules %s, which is set to something else; unset one of them", name, other))
		}
	}
}

// environment returns the variables that are set to something.
func environment(lines []string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		if name, text, ok := strings.Cut(line, "="); ok && text != "" {
			out[name] = text
		}
	}
	return out
}

// foreign are variables with our prefix that are not ours: what Kubernetes tells of a service named twofold or twofold-…, and what
// the tests of Twofold read.
var foreign = regexp.MustCompile(`^TWOFOLD_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$|^TWOFOLD_(TEST_.*|SEED)$`)

// warnMisspelt warns of variables that are named like a setting's but are none. It does not refuse them: other programs may know them.
func (l *Loaded) warnMisspelt() {
	known := []string{strings.TrimPrefix(fileEnv, EnvPrefix)}
	for _, f := range Fields() {
		known = append(known, strings.TrimPrefix(f.Env, EnvPrefix))
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		short, ours := strings.CutPrefix(name, EnvPrefix)
		if !ours || slices.Contains(known, short) || foreign.MatchString(name) {
			continue
		}
		suggestion := strings.Replace(feature.DidYouMean(short, known), `"`, `"`+EnvPrefix, 1)
		l.Warnings = append(l.Warnings, fmt.Sprintf("environment variable %s is not a setting%s", name, orList(suggestion)))
	}
}

func (l *Loaded) invalid(key string, err error) error {
	return &FieldError{Key: key, Source: l.Source(key), Err: err}
}

// FieldError says what is wrong with one setting.
type FieldError struct {
	// Key is the setting's key.
	Key string
	// Source is where its value came from.
	Source Source
	// Err is what is wrong and how to mend it.
	Err error
}

// Error returns the text with key and source.
func (e *FieldError) Error() string { return fmt.Sprintf("%s (%s): %v", e.Key, e.Source, e.Err) }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }
