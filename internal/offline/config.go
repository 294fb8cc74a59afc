package offline

import (
	"strings"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Config says where the offline store is.
type Config struct {
	// Path is what relative source paths are relative to: a folder, a file:// URL or s3://bucket/prefix. Defaults to ".".
	Path string
	// S3 says how s3:// URLs are reached. Not used where there are none.
	S3 S3Config
}

// S3Config says how to reach an S3 service.
type S3Config struct {
	// Endpoint is the URL of the service, for example "http://localhost:9000". Defaults to Amazon's for the region.
	Endpoint string
	// Region defaults to the SDK's own chain (AWS_REGION and so on), and to us-east-1 where an Endpoint is given.
	Region string
	// PathStyle puts the bucket into the path of a request instead of its host name, as most services other than Amazon's need.
	PathStyle bool
	// AccessKeyID and SecretAccessKey are static credentials. Defaults to the SDK's own chain (environment, profile, role).
	AccessKeyID     string
	SecretAccessKey string `json:"-"`
	// SessionToken goes with temporary static credentials. Defaults to none.
	SessionToken string `json:"-"`
}

// String shows the configuration without its secrets.
func (c S3Config) String() string {
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "Amazon S3"
	}
	return strings.TrimSpace(endpoint + " " + c.Region)
}

// Validate checks what can be checked without reaching the service; an error is of kind Invalid.
func (c S3Config) Validate() error {
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		return fault.New(fault.Invalid, "S3 credentials: give both the access key id and the secret access key, or neither to use the default chain")
	}
	if c.SessionToken != "" && c.AccessKeyID == "" {
		return fault.New(fault.Invalid, "S3 credentials: a session token needs an access key id and a secret access key")
	}
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "http://") && !strings.HasPrefix(c.Endpoint, "https://") {
		return fault.New(fault.Invalid, "S3 endpoint %q: it must start with http:// or https://", c.Endpoint)
	}
	return nil
}
