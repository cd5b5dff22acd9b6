package org.sonoedge.app

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import org.sonoedge.core.Device
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

/** What this phone tells about itself for a run file; nothing that names its owner. */
fun thisDevice(context: Context, executed: Executed): Device {
    val memory = ActivityManager.MemoryInfo().also {
        (context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager).getMemoryInfo(it)
    }
    val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
    val tenths = battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, 0) ?: 0
    val chip = if (Build.VERSION.SDK_INT >= 31) " (${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL})" else ""
    val clock = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ssXXX", Locale.ROOT).apply { timeZone = TimeZone.getTimeZone("UTC") }
    return Device(
        processor = "${Build.MANUFACTURER} ${Build.MODEL}$chip",
        architecture = Build.SUPPORTED_ABIS.firstOrNull().orEmpty(),
        system = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
        cores = Runtime.getRuntime().availableProcessors(),
        memoryBytes = memory.totalMem.takeIf { it > 0 },
        temperatureC = (tenths / 10.0).takeIf { tenths > 0 },
        threads = executed.threads,
        executed = executed.toJson(),
        created = clock.format(Date()),
    )
}
