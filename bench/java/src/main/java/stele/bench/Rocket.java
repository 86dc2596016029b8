// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.bench;

import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.GetMessageStatus;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.PutMessageStatus;
import org.apache.rocketmq.store.config.FlushDiskType;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/** RocketMQ's DefaultMessageStore, with its defaults but for the flush. */
final class Rocket {
    private static final String TOPIC = "bench";
    private static final InetSocketAddress HOST = new InetSocketAddress("127.0.0.1", 10911);
    /** What a consumer asks for that wants throughput, as in stele.go. */
    private static final int READ_MESSAGES = 1024;
    private static final int READ_BYTES = 2 << 20;

    private final DefaultMessageStore store;

    Rocket(Spec spec) throws IOException {
        MessageStoreConfig config = new MessageStoreConfig();
        config.setStorePathRootDir(spec.dir);
        config.setStorePathCommitLog(spec.dir + File.separator + "commitlog");
        config.setHaListenPort(0); // any that is free
        config.setDiskMaxUsedSpaceRatio(95); // the disk may be rather full
        config.setCleanFileForciblyEnable(false);
        config.setFlushDiskType(spec.sync ? FlushDiskType.SYNC_FLUSH : FlushDiskType.ASYNC_FLUSH);
        // A get returns as much as is asked for.
        config.setMaxTransferCountOnMessageInMemory(READ_MESSAGES);
        config.setMaxTransferBytesOnMessageInMemory(READ_BYTES);
        config.setMaxTransferCountOnMessageInDisk(READ_MESSAGES);
        config.setMaxTransferBytesOnMessageInDisk(READ_BYTES);
        BrokerConfig broker = new BrokerConfig();
        store = new DefaultMessageStore(config, new BrokerStatsManager(broker),
            (topic, queue, offset, tags, time, bitmap, properties) -> { }, broker, new ConcurrentHashMap<>());
    }

    void open() throws Exception {
        if (!store.load()) {
            throw new IllegalStateException("the store does not load");
        }
        store.start();
    }

    /** Waits until all that was put is in its queue. */
    void settle() {
        while (store.dispatchBehindBytes() > 0) {
            LockSupport.parkNanos(100_000);
        }
    }

    long count() throws Exception {
        return store.getMaxOffsetInQueue(TOPIC, 0);
    }

    Putter putter(int queue) {
        return new Putter(queue);
    }

    /** What one producer puts with: one message that is filled in again and again. */
    final class Putter {
        private final int queue;
        private final MessageExtBrokerInner message = new MessageExtBrokerInner();
        private final List<Message> batch = new ArrayList<>();

        Putter(int queue) {
            this.queue = queue;
            head(message);
        }

        private void head(MessageExtBrokerInner m) {
            m.setTopic(TOPIC);
            m.setQueueId(queue);
            m.setBornHost(HOST);
            m.setStoreHost(HOST);
            MessageAccessor.setProperties(m, new HashMap<>());
            m.setPropertiesString("");
        }

        void put(byte[] body) {
            message.setBody(body);
            message.setBornTimestamp(System.currentTimeMillis());
            done(store.putMessage(message));
        }

        void putBatch(Bodies bodies, int n) {
            while (batch.size() < n) {
                batch.add(new Message(TOPIC, null));
            }
            for (Message m : batch) {
                m.setBody(bodies.one());
            }
            MessageExtBatch m = new MessageExtBatch();
            head(m);
            m.setBornTimestamp(System.currentTimeMillis());
            m.setBody(MessageDecoder.encodeMessages(batch));
            done(store.putMessages(m));
        }

        private void done(PutMessageResult result) {
            if (result.getPutMessageStatus() != PutMessageStatus.PUT_OK) {
                throw new IllegalStateException("put: " + result);
            }
        }
    }

    /** Reads up to most messages from an offset on, body checked, and returns how many there were. */
    long scan(long from, long most, Spec spec, long nanos) {
        long start = System.nanoTime();
        long read = 0;
        for (long at = from; read < most && System.nanoTime() - start < nanos; ) {
            GetMessageResult got = store.getMessage("bench", TOPIC, 0, at, READ_MESSAGES, null);
            try {
                if (got.getStatus() != GetMessageStatus.FOUND) {
                    return read;
                }
                for (ByteBuffer record : got.getMessageBufferList()) {
                    if (decode(record).getBody().length != spec.size) {
                        throw new IllegalStateException("a message has another length");
                    }
                    read++;
                }
                at = got.getNextBeginOffset();
            } finally {
                got.release();
            }
        }
        return read;
    }

    byte[] pick(long offset) {
        GetMessageResult got = store.getMessage("bench", TOPIC, 0, offset, 1, null);
        try {
            return decode(got.getMessageBufferList().get(0)).getBody();
        } finally {
            got.release();
        }
    }

    private static MessageExt decode(ByteBuffer record) {
        MessageExt m = MessageDecoder.decode(record, true, false, false, false, true);
        if (m == null) {
            throw new IllegalStateException("a message is damaged");
        }
        return m;
    }
}
