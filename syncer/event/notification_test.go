package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Bodies as the services send them, shortened by what nobody reads.
const (
	awsPut = `{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:01.000Z","eventName":"ObjectCreated:Put",
		"userIdentity":{"principalId":"A"},"s3":{"s3SchemaVersion":"1.0","configurationId":"c","bucket":{"name":"b","ownerIdentity":{"principalId":"A"},"arn":"arn:aws:s3:::b"},
		"object":{"key":"v/day%3D1/a+b%2Bc.parquet","size":1024,"eTag":"d4","sequencer":"0055AED6DCD90281E5"}}}]}`
	awsTest = `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"b","RequestId":"5582815E1AEA5ADF","HostId":"8c"}`
	minio   = `{"EventName":"s3:ObjectCreated:CompleteMultipartUpload","Key":"b/v/1.parquet","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"",
		"eventTime":"2026-01-02T03:04:05.678Z","eventName":"s3:ObjectCreated:CompleteMultipartUpload","s3":{"bucket":{"name":"b"},
		"object":{"key":"v%2F1.parquet","size":5,"eTag":"x","contentType":"application/octet-stream","userMetadata":{"content-type":"x"},"sequencer":"17"}},
		"source":{"host":"127.0.0.1","port":"","userAgent":"mc"}}]}`
	versitygw = `{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-01-02T03:04:05Z","eventName":"s3:ObjectCreated:Put",
		"userIdentity":{"PrincipalId":"u"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},"s3":{"s3SchemaVersion":"1.0","configurationId":"webhook-global",
		"bucket":{"name":"b","ownerIdentity":{"PrincipalId":"u"},"arn":"arn:aws:s3:::/b/v/1.parquet"},"object":{"key":"v/1.parquet","size":5,"eTag":"x","versionId":null,"sequencer":"18"}},
		"glacierEventData":{"restoreEventData":{}}}]}`
	eventBridge = `{"version":"0","id":"17793124","detail-type":"Object Created","source":"aws.s3","account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1",
		"resources":["arn:aws:s3:::b"],"detail":{"version":"0","bucket":{"name":"b"},"object":{"key":"v/a+b%20c.parquet","size":5,"etag":"b1"},"reason":"PutObject"}}`
	snsConfirm = `{"Type":"SubscriptionConfirmation","MessageId":"1","Token":"2","TopicArn":"arn:aws:sns:us-west-2:123456789012:MyTopic","Message":"You have chosen to subscribe",
		"SubscribeURL":"https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2","Timestamp":"2012-04-26T20:45:04.751Z"}`
)

func sns(message string) string {
	quoted, _ := json.Marshal(message)
	return `{"Type":"Notification","MessageId":"1","TopicArn":"arn:aws:sns:us-west-2:1:t","Subject":"Amazon S3 Notification","Message":` + string(quoted) + `,"SignatureVersion":"1"}`
}

// event is a body of S3's own form with one record.
func record1(name, bucket, key string) string {
	body, _ := json.Marshal(map[string]any{"Records": []any{map[string]any{
		"eventName": name, "s3": map[string]any{"bucket": map[string]any{"name": bucket}, "object": map[string]any{"key": key}},
	}}})
	return string(body)
}

func at(text string) time.Time {
	when, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return when
}

func TestNotifications(t *testing.T) {
	awsObject := Object{URL: "s3://b/v/day=1/a b+c.parquet", literal: "s3://b/v/day%3D1/a+b%2Bc.parquet", At: at("1970-01-01T00:00:01Z")}
	bridged := Object{URL: "s3://b/v/a+b%20c.parquet", At: at("2021-11-12T00:00:00Z")}
	one := []Object{{URL: "s3://b/k"}}
	gone := []Object{{URL: "s3://b/k", Removed: true}}
	for name, c := range map[string]struct {
		body    string
		want    []Object
		ignored int
		bad     []string
	}{
		"S3":                    {body: awsPut, want: []Object{awsObject}},
		"S3, test":              {body: awsTest, ignored: 1},
		"S3, nothing":           {body: `{"Records":[]}`},
		"S3, two":               {body: `{"Records":[` + strings.Repeat(awsPut[len(`{"Records":[`):len(awsPut)-2]+",", 2) + `{"eventName":"ObjectTagging:Put"}]}`, want: []Object{awsObject, awsObject}, ignored: 1},
		"MinIO":                 {body: minio, want: []Object{{URL: "s3://b/v/1.parquet", literal: "s3://b/v%2F1.parquet", At: at("2026-01-02T03:04:05.678Z")}}},
		"versitygw":             {body: versitygw, want: []Object{{URL: "s3://b/v/1.parquet", At: at("2026-01-02T03:04:05Z")}}},
		"EventBridge":           {body: eventBridge, want: []Object{bridged}},
		"EventBridge, removed":  {body: strings.Replace(eventBridge, "Object Created", "Object Deleted", 1), want: []Object{{URL: bridged.URL, At: bridged.At, Removed: true}}},
		"EventBridge, restored": {body: strings.Replace(eventBridge, "Object Created", "Object Restore Completed", 1), want: []Object{bridged}},
		"EventBridge, tags":     {body: strings.Replace(eventBridge, "Object Created", "Object Tags Added", 1), ignored: 1},
		"SNS of S3":             {body: sns(awsPut), want: []Object{awsObject}},
		"SNS of EventBridge":    {body: sns(eventBridge), want: []Object{bridged}},
		"SNS of a test":         {body: sns(awsTest), ignored: 1},
		"SNS, goodbye":          {body: `{"Type":"UnsubscribeConfirmation","SubscribeURL":"https://x"}`, ignored: 1},
		"a list":                {body: " [" + eventBridge + "," + sns(awsPut) + "]\n", want: []Object{bridged, awsObject}},
		"removed":               {body: record1("ObjectRemoved:Delete", "b", "k"), want: gone},
		"removed, marker":       {body: record1("s3:ObjectRemoved:DeleteMarkerCreated", "b", "k"), want: gone},
		"versitygw, removed":    {body: record1("s3:ObjectRemoved:DeleteObjects", "b", "k"), want: gone},
		"expired":               {body: record1("LifecycleExpiration:Delete", "b", "k"), want: gone},
		"Ceph, expired":         {body: record1("s3:ObjectLifecycle:Expiration:Current", "b", "k"), want: gone},
		"restored":              {body: record1("ObjectRestore:Completed", "b", "k"), want: one},
		"restore begun":         {body: record1("ObjectRestore:Post", "b", "k"), ignored: 1},
		"read":                  {body: record1("s3:ObjectAccessed:Get", "b", "k"), ignored: 1},
		"no encoding":           {body: record1("ObjectCreated:Put", "b", "100%.parquet"), want: []Object{{URL: "s3://b/100%.parquet"}}},

		"empty":           {body: " \n", bad: []string{"empty"}},
		"no JSON":         {body: "hello", bad: []string{"not a JSON object"}},
		"cut off":         {body: awsPut[:200], bad: []string{"not a JSON object"}},
		"list, cut off":   {body: "[" + eventBridge, bad: []string{"not JSON"}},
		"another object":  {body: `{"a":1}`, bad: []string{"none of the fields"}},
		"null":            {body: `null`, bad: []string{"none of the fields"}},
		"a number":        {body: `1`, bad: []string{"not a JSON object"}},
		"another type":    {body: `{"Records":{}}`, bad: []string{"not a JSON object"}},
		"no bucket":       {body: record1("ObjectCreated:Put", "", "k"), bad: []string{`"" for a bucket's name`}},
		"a bucket's path": {body: record1("ObjectCreated:Put", "a/b", "k"), bad: []string{`"a/b" for a bucket's name`}},
		"no key":          {body: record1("ObjectCreated:Put", "b", ""), bad: []string{"names no object"}},
		"SNS of nothing":  {body: sns(""), bad: []string{"empty"}},
		"SNS of text":     {body: sns("hello"), bad: []string{"not a JSON object"}},
		"SNS in SNS":      {body: sns(sns(sns(awsPut))), bad: []string{"wrapped"}},
		"lists in lists":  {body: strings.Repeat("[", 1000) + strings.Repeat("]", 1000), bad: []string{"wrapped"}},
		"some":            {body: "[1," + awsPut + ",{}]", want: []Object{awsObject}, bad: []string{"not a JSON object", "none of the fields"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := parseNotification([]byte(c.body))
			assert.Equal(t, c.want, n.objects)
			assert.Equal(t, c.ignored, n.ignored)
			if assert.Len(t, n.bad, len(c.bad)) {
				for i, err := range n.bad {
					assert.ErrorContains(t, err, c.bad[i])
				}
			}
		})
	}
}

func TestNotificationErrorIsShort(t *testing.T) {
	n := parseNotification([]byte("[1,2,3" + strings.Repeat(",4", 1000) + "]"))
	assert.Len(t, n.bad, 1003)
	assert.ErrorContains(t, n.err(), "and 1000 more")
	assert.Less(t, len(n.err().Error()), 1000)
	assert.Len(t, n.bad, 1003, "asking changes nothing")
}

func FuzzNotification(f *testing.F) {
	for _, body := range []string{awsPut, awsTest, minio, versitygw, eventBridge, snsConfirm, sns(awsPut), sns(eventBridge), "[" + awsPut + "]", `{"Records":[{}]}`, "null", "[[[["} {
		f.Add([]byte(body))
	}
	r := router(f, "v", "s3://b/v", "w", "s3://b/v/{a,[b-c]}*/**")
	f.Fuzz(func(t *testing.T, body []byte) {
		n := parseNotification(body)
		for _, o := range n.objects {
			bucket, key, ok := strings.Cut(strings.TrimPrefix(o.URL, "s3://"), "/")
			if !ok || bucket == "" || key == "" {
				t.Errorf("URL %q", o.URL)
			}
			r.Views(o.URL)
		}
		if (n.err() == nil) != (len(n.bad) == 0) {
			t.Errorf("%v: %v", n.bad, n.err())
		}
		if len(n.objects)+n.ignored+len(n.bad) > len(body)+1 {
			t.Errorf("%d bytes are more events", len(body))
		}
	})
}
