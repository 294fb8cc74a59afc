package testenv

import "testing"

func TestS3ServerIsShared(t *testing.T) {
	server := S3(t)
	bucket := server.Bucket(t)
	server.Put(t, bucket, "a/b.txt", []byte("hello"))
	t.Run("by a subtest", func(t *testing.T) {
		if S3(t) != server {
			t.Fatal("a second server was started")
		}
	})
	server.Delete(t, bucket, "a/b.txt")
}
