// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.interop;

import com.alibaba.fastjson2.JSONArray;
import com.alibaba.fastjson2.JSONObject;
import java.io.File;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.apache.rocketmq.common.BoundaryType;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.SystemClock;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.GetMessageStatus;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.QueryMessageResult;
import org.apache.rocketmq.store.RocksDBMessageStore;
import org.apache.rocketmq.store.SelectMappedBufferResult;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.queue.ConsumeQueueInterface;
import org.apache.rocketmq.store.queue.CqUnit;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/** One directory, opened by RocketMQ's DefaultMessageStore. */
final class OpenStore {
    private final DefaultMessageStore store;
    private final boolean smallIndex;
    private long end; // of the log, as far as this one wrote it
    private final Clock clock = new Clock();

    /** The time that the store is told: the system's, unless a message says when it is stored. */
    private static final class Clock extends SystemClock {
        private volatile long fixed;

        @Override
        public long now() {
            return fixed == 0 ? super.now() : fixed;
        }
    }

    /**
     * Makes a store, one at a time: the constructor of RocketMQ's StoreStatsService
     * fills a TreeMap that is static and not synchronised, which comes to grief when
     * two stores are made at once in a JVM.
     */
    static OpenStore of(String dir, JSONObject config) throws IOException {
        synchronized (OpenStore.class) {
            return new OpenStore(dir, config);
        }
    }

    private OpenStore(String dir, JSONObject c) throws IOException {
        MessageStoreConfig config = new MessageStoreConfig();
        config.setStorePathRootDir(dir);
        config.setStorePathCommitLog(c.getString("commitLog") != null ? c.getString("commitLog")
            : dir + File.separator + "commitlog");
        config.setHaListenPort(0); // any that is free
        config.setDiskMaxUsedSpaceRatio(95); // the disk of a test may be rather full
        config.setCleanFileForciblyEnable(false);
        config.setDeleteWhen("24"); // an hour that never comes: it deletes when it is told to
        config.setMaxMessageSize(256 << 10); // each thread that puts has a buffer of that
        config.setFileReservedTime(c.getIntValue("reservedHours", 72));
        config.setSyncFlushTimeout(600_000); // it is no failure that a machine is slow
        config.setFlushDiskType(c.getString("flush"));
        config.setEnabledAppendPropCRC(c.getBooleanValue("propertyCRC"));
        config.setForceVerifyPropCRC(c.getBooleanValue("verifyPropertyCRC"));
        config.setTransientStorePoolEnable(c.getBooleanValue("pool"));
        config.setTransientStorePoolSize(2);
        if (c.getIntValue("fileSize") > 0) {
            config.setMappedFileSizeCommitLog(c.getIntValue("fileSize"));
        }
        if (c.getIntValue("queueFileSize") > 0) {
            config.setMappedFileSizeConsumeQueue(c.getIntValue("queueFileSize"));
        }
        if (c.getIntValue("slots") > 0) {
            config.setMaxHashSlotNum(c.getIntValue("slots"));
            config.setMaxIndexNum(c.getIntValue("entries"));
        }
        smallIndex = config.getMaxIndexNum() < 4000;
        BrokerConfig broker = new BrokerConfig();
        ConcurrentMap<String, TopicConfig> topics = new ConcurrentHashMap<>();
        if (c.getString("batchTopic") != null) {
            TopicConfig topic = new TopicConfig(c.getString("batchTopic"));
            topic.getAttributes().put("queue.type", "BatchCQ");
            topics.put(topic.getTopicName(), topic);
        }
        if (c.getBooleanValue("rocksDB")) {
            config.setStoreType("defaultRocksDB");
            store = new RocksDBMessageStore(config, new BrokerStatsManager(broker), OpenStore::arrived, broker, topics);
            return;
        }
        store = new DefaultMessageStore(config, new BrokerStatsManager(broker), OpenStore::arrived, broker, topics) {
            @Override
            public SystemClock getSystemClock() {
                return clock == null ? super.getSystemClock() : clock;
            }
        };
    }

    private static void arrived(String topic, int queue, long offset, long tags, long time, byte[] bitmap,
        Map<String, String> properties) {
        // Nobody waits for messages here.
    }

    boolean open() throws Exception {
        if (!store.load()) {
            return false;
        }
        store.start();
        return true;
    }

    long minOffset() {
        return store.getMinPhyOffset();
    }

    long maxOffset() {
        return store.getMaxPhyOffset();
    }

    /**
     * Waits until all that was put is in its queue and in the index. An index file
     * is named by the millisecond in which it is made, and two of one name are one:
     * with small ones, each message gets a millisecond of its own.
     */
    void settle() {
        long begin = System.currentTimeMillis();
        while (store.getMaxPhyOffset() < end || store.dispatchBehindBytes() > 0
            || smallIndex && System.currentTimeMillis() == begin) {
            LockSupport.parkNanos(500_000);
        }
    }

    /** Has the next message of a queue get an offset, in a store without messages. */
    void begin(String topic, int queue, long offset) throws ReflectiveOperationException {
        ConcurrentHashMap<String, Long> next = new ConcurrentHashMap<>();
        next.put(topic + "-" + queue, offset);
        // Its class is another one in each version.
        Object queues = store.getQueueStore();
        queues.getClass().getMethod("setTopicQueueTable", ConcurrentMap.class).invoke(queues, next);
    }

    JSONObject put(JSONObject spec) {
        boolean batch = spec.getBooleanValue("batch");
        MessageExtBrokerInner m = batch ? new MessageExtBatch() : new MessageExtBrokerInner();
        m.setTopic(spec.getString("topic"));
        m.setQueueId(spec.getIntValue("queueId"));
        m.setFlag(spec.getIntValue("flag"));
        m.setSysFlag(spec.getIntValue("sysFlag"));
        m.setBornTimestamp(spec.getLongValue("bornTimestamp"));
        m.setBornHost(host(spec.getString("bornHost")));
        m.setStoreHost(host(spec.getString("storeHost")));
        m.setReconsumeTimes(spec.getIntValue("reconsumeTimes"));
        m.setPreparedTransactionOffset(spec.getLongValue("preparedTransactionOffset"));
        m.setBody(Base64.getDecoder().decode(spec.getString("body")));
        String properties = new String(Base64.getDecoder().decode(spec.getString("properties")), StandardCharsets.UTF_8);
        MessageAccessor.setProperties(m, MessageDecoder.string2messageProperties(properties));
        m.setPropertiesString(properties);
        m.setTagsCode(MessageExtBrokerInner.tagsString2tagsCode(m.getTags()));

        clock.fixed = spec.getLongValue("storeTimestamp");
        PutMessageResult result = batch ? store.putMessages((MessageExtBatch) m) : store.putMessage(m);
        clock.fixed = 0;
        if (smallIndex) {
            settle();
        }

        JSONObject reply = new JSONObject();
        reply.put("status", result.getPutMessageStatus().toString());
        if (result.getAppendMessageResult() != null) {
            end = result.getAppendMessageResult().getWroteOffset() + result.getAppendMessageResult().getWroteBytes();
            reply.put("append", result.getAppendMessageResult().getStatus().toString());
            reply.put("physicalOffset", result.getAppendMessageResult().getWroteOffset());
            reply.put("size", result.getAppendMessageResult().getWroteBytes());
            reply.put("queueOffset", result.getAppendMessageResult().getLogicsOffset());
            reply.put("storeTimestamp", result.getAppendMessageResult().getStoreTimestamp());
            reply.put("msgId", result.getAppendMessageResult().getMsgId());
        }
        return reply;
    }

    /** Yields each queue with its bounds, and behind it each message that getMessage returns. */
    void dump(boolean skipBlank, Consumer<JSONObject> line) throws Exception {
        for (String topic : new TreeMap<>(store.getConsumeQueueTable()).keySet()) {
            for (ConsumeQueueInterface queue : new TreeMap<>(store.getConsumeQueueTable().get(topic)).values()) {
                dumpQueue(topic, queue, skipBlank, line);
            }
        }
    }

    private void dumpQueue(String topic, ConsumeQueueInterface queue, boolean skipBlank, Consumer<JSONObject> line)
        throws Exception {
        int id = queue.getQueueId();
        long min = store.getMinOffsetInQueue(topic, id);
        long max = store.getMaxOffsetInQueue(topic, id);
        JSONObject head = new JSONObject();
        head.put("queue", true);
        head.put("topic", topic);
        head.put("queueId", id);
        head.put("min", min);
        head.put("max", max);
        head.put("next", store.getMaxOffsetInQueue(topic, id, false));
        line.accept(head);
        long from = min;
        while (skipBlank && from < max && queue.get(from).getSize() == Integer.MAX_VALUE) {
            from++;
        }
        for (long at = from; at < max; ) {
            GetMessageResult got = store.getMessage("interop", topic, id, at, 32, null);
            try {
                if (got.getStatus() != GetMessageStatus.FOUND) {
                    line.accept(noMessage(topic, id, at, got.getStatus().toString()));
                    if (got.getNextBeginOffset() <= at) {
                        return;
                    }
                }
                for (int i = 0; i < got.getMessageCount(); i++) {
                    long offset = got.getMessageQueueOffset().get(i);
                    CqUnit unit = queue.get(offset);
                    if (unit.getSize() == 0) { // It takes the start of a file of zeros for an entry.
                        line.accept(noMessage(topic, id, offset, "BLANK"));
                        continue;
                    }
                    JSONObject m = message(got.getMessageBufferList().get(i));
                    m.put("at", offset);
                    m.put("entryOffset", unit.getPos());
                    m.put("entrySize", unit.getSize());
                    m.put("tagsCode", unit.getTagsCode());
                    line.accept(m);
                }
                at = got.getNextBeginOffset();
            } finally {
                got.release();
            }
        }
    }

    private static JSONObject noMessage(String topic, int queue, long at, String status) {
        JSONObject line = new JSONObject();
        line.put("topic", topic);
        line.put("queueId", queue);
        line.put("at", at);
        line.put("status", status);
        return line;
    }

    /** What RocketMQ's decoder, the client's, makes of a record. */
    private static JSONObject message(ByteBuffer record) {
        MessageExt m = MessageDecoder.decode(record.duplicate(), true, false);
        MessageExt plain = MessageDecoder.decode(record.duplicate(), true, true);
        JSONObject line = new JSONObject();
        line.put("topic", m.getTopic());
        line.put("queueId", m.getQueueId());
        line.put("queueOffset", m.getQueueOffset());
        line.put("physicalOffset", m.getCommitLogOffset());
        line.put("size", m.getStoreSize());
        line.put("flag", m.getFlag());
        line.put("sysFlag", m.getSysFlag());
        line.put("bodyCRC", m.getBodyCRC());
        line.put("bornTimestamp", m.getBornTimestamp());
        line.put("bornHost", host((InetSocketAddress) m.getBornHost()));
        line.put("storeTimestamp", m.getStoreTimestamp());
        line.put("storeHost", host((InetSocketAddress) m.getStoreHost()));
        line.put("reconsumeTimes", m.getReconsumeTimes());
        line.put("preparedTransactionOffset", m.getPreparedTransactionOffset());
        line.put("body", Base64.getEncoder().encodeToString(m.getBody() == null ? new byte[0] : m.getBody()));
        line.put("plain", Base64.getEncoder().encodeToString(plain.getBody() == null ? new byte[0] : plain.getBody()));
        line.put("properties", m.getProperties() == null ? new TreeMap<>() : new TreeMap<>(m.getProperties()));
        line.put("msgId", m.getMsgId());
        return line;
    }

    /** The messages whose records begin at the given places; null where none does. */
    JSONArray look(JSONArray offsets) {
        JSONArray found = new JSONArray();
        for (int i = 0; i < offsets.size(); i++) {
            SelectMappedBufferResult record = store.selectOneMessageByOffset(offsets.getLongValue(i));
            try {
                found.add(record == null ? null : message(record.getByteBuffer()));
            } finally {
                if (record != null) {
                    record.release();
                }
            }
        }
        return found;
    }

    private static InetSocketAddress host(String text) {
        int colon = text.lastIndexOf(':');
        return new InetSocketAddress(text.substring(0, colon).replace("[", "").replace("]", ""),
            Integer.parseInt(text.substring(colon + 1)));
    }

    private static String host(InetSocketAddress host) {
        return Base64.getEncoder().encodeToString(host.getAddress().getAddress()) + ":" + host.getPort();
    }

    /** The places of the messages that have a key, as a client that asks a broker gets them. */
    JSONArray query(JSONObject request) throws Exception {
        String topic = request.getString("topic");
        String key = request.getString("key");
        QueryMessageResult got = store.queryMessage(topic, key, request.getIntValue("max"),
            request.getLongValue("begin"), request.getLongValue("end"));
        JSONArray offsets = new JSONArray();
        try {
            for (ByteBuffer record : got.getMessageBufferList()) {
                MessageExt m = MessageDecoder.decode(record, true, false);
                String keys = m.getKeys() == null ? "" : m.getKeys();
                // A broker compares hashes; the client looks at the message.
                if (m.getTopic().equals(topic) && (Arrays.asList(keys.split(" ")).contains(key)
                    || key.equals(m.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX)))) {
                    offsets.add(m.getCommitLogOffset());
                }
            }
        } finally {
            got.release();
        }
        return offsets;
    }

    void times(JSONObject request, JSONObject reply) {
        JSONArray lower = new JSONArray();
        JSONArray upper = new JSONArray();
        JSONArray times = request.getJSONArray("times");
        for (int i = 0; i < times.size(); i++) {
            String topic = request.getString("topic");
            int queue = request.getIntValue("queueId");
            lower.add(store.getOffsetInQueueByTime(topic, queue, times.getLongValue(i), BoundaryType.LOWER));
            upper.add(store.getOffsetInQueueByTime(topic, queue, times.getLongValue(i), BoundaryType.UPPER));
        }
        reply.put("lower", lower);
        reply.put("upper", upper);
    }

    /** Lets the services that delete files do one round, which they do by the clock otherwise. */
    void expire() throws Exception {
        Object log = service("cleanCommitLogService");
        call(log, "executeDeleteFilesManually");
        call(log, "run");
        call(service("cleanConsumeQueueService"), "run");
    }

    /** From 5.4 on some services belong to the queues. */
    private Object service(String name) throws ReflectiveOperationException {
        Object owner = store;
        Class<?> type = DefaultMessageStore.class;
        if (Arrays.stream(type.getDeclaredFields()).noneMatch(field -> field.getName().equals(name))) {
            owner = store.getQueueStore();
            type = owner.getClass();
        }
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(owner);
    }

    private static void call(Object service, String name) throws ReflectiveOperationException {
        Method method = service.getClass().getMethod(name);
        method.setAccessible(true);
        method.invoke(service);
    }

    void close() {
        store.shutdown();
    }
}
