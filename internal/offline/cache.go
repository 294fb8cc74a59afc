package offline

import (
	"container/list"
	"sync"

	"github.com/apache/arrow-go/v18/parquet/schema"
)

// footerCacheBytes bounds the memory of the cached footers.
const footerCacheBytes = 32 << 20

// footerCache keeps the footers that were used last, by URL and version.
type footerCache struct {
	mu       sync.Mutex
	maxBytes int
	bytes    int
	order    *list.List // of *cachedFooter, the last used first
	byFile   map[footerKey]*list.Element
}

type footerKey struct {
	at   location
	etag string
}

type cachedFooter struct {
	key    footerKey
	footer *footer
}

func newFooterCache(maxBytes int) *footerCache {
	return &footerCache{maxBytes: maxBytes, order: list.New(), byFile: map[footerKey]*list.Element{}}
}

func (c *footerCache) get(o object) (*footer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byFile[footerKey{o.at, o.etag}]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedFooter).footer, true
}

// put keeps a footer, unless the object has no version to know it by.
func (c *footerCache) put(o object, f *footer) {
	if o.etag == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := footerKey{o.at, o.etag}
	if _, ok := c.byFile[key]; ok {
		return
	}
	c.byFile[key] = c.order.PushFront(&cachedFooter{key, f})
	c.bytes += f.sizeBytes()
	for c.bytes > c.maxBytes && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}

func (c *footerCache) remove(e *list.Element) {
	cached := c.order.Remove(e).(*cachedFooter)
	delete(c.byFile, cached.key)
	c.bytes -= cached.footer.sizeBytes()
}

func (c *footerCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.byFile)
	c.bytes = 0
}

// maxCachedSchemas is how many schemas are kept. A table has one, or a few over the years.
const maxCachedSchemas = 64

// schemaCache keeps the columns of schemas, so that files of one schema share them.
type schemaCache struct {
	mu      sync.Mutex
	schemas map[string][]column // by the serialized schema
}

// columns gives the columns of a schema. They are not changed.
func (c *schemaCache) columns(serialized []byte, s *schema.Schema) []column {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.schemas[string(serialized)]; ok {
		return known
	}
	if c.schemas == nil || len(c.schemas) >= maxCachedSchemas {
		c.schemas = map[string][]column{}
	}
	columns := columnsOf(s)
	c.schemas[string(serialized)] = columns
	return columns
}
